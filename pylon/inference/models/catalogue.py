"""The models worth serving, the memory that they need, and which suit a machine: plain arithmetic.

Sizes follow from what the models' own pages and configurations say: weights of 4 bits with a scale and an offset of
16 bits for each group of 64 take 4.5 bits each, those of a GGUF file of Q4_K_M 4.84 (llama.cpp's own table, of
`llama-quantize`); a token's key-value state is layers × KV heads × head size × 2 × 2 bytes.
"""

from dataclasses import dataclass

GB = 10**9
MLX_BITS, GGUF_BITS = 4.5, 4.84
# The batch that a model should have memory for: so many jobs of so many tokens at once.
JOBS, JOB_TOKENS = 8, 2_048
# The share of the machine's memory for the model; the rest is for the system and its owner.
OF_TOTAL = 0.65


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the catalogue.

    `mlx` and `gguf` are repositories; the GGUF file wanted there is the one whose name holds Q4_K_M.
    `parameters` in billions (10**9), `active` those that one token uses, `kv_bytes` one token's key-value state,
    `context` in tokens.
    """

    mlx: str
    gguf: str
    parameters: float
    active: float
    kv_bytes: int
    context: int
    strengths: str

    def weights_bytes(self, bits: float) -> int:
        return int(self.parameters * 1e9 * bits / 8)


def _kv(layers: int, heads: int) -> int:
    """Bytes of one token's keys and values: two tensors of 16-bit floats, 128 numbers a head in all of these."""
    return layers * heads * 128 * 2 * 2


CATALOGUE = (
    Model(
        "mlx-community/Qwen3-0.6B-4bit",
        "unsloth/Qwen3-0.6B-GGUF",
        0.6,
        0.6,
        _kv(28, 8),
        40_960,
        "the smallest that follows instructions; for short look-ups",
    ),
    Model(
        "mlx-community/Qwen3-1.7B-4bit",
        "unsloth/Qwen3-1.7B-GGUF",
        1.7,
        1.7,
        _kv(28, 8),
        40_960,
        "for extraction and classification of many texts at once",
    ),
    Model(
        "mlx-community/Qwen3-4B-Instruct-2507-4bit",
        "unsloth/Qwen3-4B-Instruct-2507-GGUF",
        4.0,
        4.0,
        _kv(36, 8),
        262_144,
        "answers directly, without visible reasoning; long contexts; the usual choice",
    ),
    Model(
        "mlx-community/Qwen3-8B-4bit",
        "unsloth/Qwen3-8B-GGUF",
        8.2,
        8.2,
        _kv(36, 8),
        40_960,
        "better reasoning; thinks aloud unless told not to",
    ),
    Model(
        "mlx-community/Qwen3-14B-4bit",
        "unsloth/Qwen3-14B-GGUF",
        14.8,
        14.8,
        _kv(40, 8),
        40_960,
        "for reading comprehension and structured answers",
    ),
    Model(
        "mlx-community/Qwen3-30B-A3B-Instruct-2507-4bit",
        "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF",
        30.5,
        3.3,
        _kv(48, 4),
        262_144,
        "a large model at the speed of a small one: 3.3 of 30.5 billion weights per token",
    ),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, what it needs, and whether that fits into `limit`, in bytes. `gguf`: for llama.cpp, else for MLX."""

    model: Model
    limit: int
    gguf: bool

    @property
    def id(self) -> str:
        """The repository to fetch it from."""
        return self.model.gguf if self.gguf else self.model.mlx

    @property
    def weights_bytes(self) -> int:
        return self.model.weights_bytes(self._bits)

    @property
    def read_bytes(self) -> int:
        """The bytes of the weights that are read for each token of an answer."""
        return int(self.model.active * 1e9 * self._bits / 8)

    @property
    def needs_bytes(self) -> int:
        """The bytes of the weights, and of the state of `JOBS` jobs of `JOB_TOKENS` tokens."""
        return self.weights_bytes + JOBS * JOB_TOKENS * self.model.kv_bytes

    @property
    def fits(self) -> bool:
        return self.needs_bytes <= self.limit

    @property
    def arithmetic(self) -> str:
        model = self.model
        kv = JOBS * JOB_TOKENS * model.kv_bytes
        return (
            f"{model.parameters:g} G weights × {self._bits:g} bits = {self.weights_bytes / GB:.1f} GB"
            f" + {JOBS} jobs × {JOB_TOKENS:,} tokens × {model.kv_bytes / 1e3:.0f} kB = {kv / GB:.1f} GB"
            f" → {self.needs_bytes / GB:.1f} GB of {self.limit / GB:.1f} GB"
        )

    @property
    def _bits(self) -> float:
        return GGUF_BITS if self.gguf else MLX_BITS


def choices(total: int, *, metal: bool) -> list[Choice]:
    """All models for a machine with `total` bytes of memory, those that fit first.

    With `metal` the best of these comes first, for MLX. Without, it is GGUF files for llama.cpp, and the one that
    reads the least for each token comes first: what a processor makes of a larger one has to be measured there.
    """
    made = [Choice(model, int(total * OF_TOTAL), not metal) for model in CATALOGUE]
    if metal:
        return sorted(made, key=lambda one: (not one.fits, one.model.parameters * (-1 if one.fits else 1)))
    return sorted(made, key=lambda one: (not one.fits, one.model.active, one.model.parameters))
