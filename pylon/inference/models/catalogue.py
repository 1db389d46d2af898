"""Models worth serving, by the memory they need, and which of them suits a machine: plain arithmetic.

Sizes follow from what the models' own pages and configurations say: weights of 4 bits with a scale and an offset of
16 bits for each group of 64 take 4.5 bits each; a token's key-value state is layers × KV heads × head size × 2 × 2
bytes.
"""

from dataclasses import dataclass

GB = 10**9
BITS_PER_WEIGHT = 4.5
# A provider's batch that is worth having: so many jobs of so many tokens at once.
JOBS, JOB_TOKENS = 8, 2_048
# Of the machine's memory, for the model: the rest is the system's and its owner's.
OF_TOTAL = 0.65


@dataclass(frozen=True, slots=True)
class Model:
    """`mlx` and `gguf` are repositories; the GGUF file wanted there is the one whose name holds Q4_K_M.

    `parameters` in thousand millions, `active` those that one token uses, `kv_bytes` one token's key-value state,
    `context` in tokens.
    """

    mlx: str
    gguf: str
    parameters: float
    active: float
    kv_bytes: int
    context: int
    strengths: str

    @property
    def weights_bytes(self) -> int:
        return int(self.parameters * 1e9 * BITS_PER_WEIGHT / 8)

    @property
    def needs_bytes(self) -> int:
        """Weights, and the state of JOBS jobs of JOB_TOKENS tokens."""
        return self.weights_bytes + JOBS * JOB_TOKENS * self.kv_bytes


def _kv(layers: int, heads: int, size: int = 128) -> int:
    return layers * heads * size * 2 * 2


CATALOGUE = (
    Model(
        "mlx-community/Qwen3-0.6B-4bit",
        "unsloth/Qwen3-0.6B-GGUF",
        0.6,
        0.6,
        _kv(28, 8),
        40_960,
        "the smallest that follows instructions; short look-ups",
    ),
    Model(
        "mlx-community/Qwen3-1.7B-4bit",
        "unsloth/Qwen3-1.7B-GGUF",
        1.7,
        1.7,
        _kv(28, 8),
        40_960,
        "extraction and classification, many at once",
    ),
    Model(
        "mlx-community/Qwen3-4B-Instruct-2507-4bit",
        "unsloth/Qwen3-4B-Instruct-2507-GGUF",
        4.0,
        4.0,
        _kv(36, 8),
        262_144,
        "answers at once without thinking aloud; long contexts; the usual choice",
    ),
    Model(
        "mlx-community/Qwen3-8B-4bit",
        "unsloth/Qwen3-8B-GGUF",
        8.2,
        8.2,
        _kv(36, 8),
        40_960,
        "better reasoning, thinks aloud unless told not to",
    ),
    Model(
        "mlx-community/Qwen3-14B-4bit",
        "unsloth/Qwen3-14B-GGUF",
        14.8,
        14.8,
        _kv(40, 8),
        40_960,
        "reading comprehension and structured answers",
    ),
    Model(
        "mlx-community/Qwen3-30B-A3B-Instruct-2507-4bit",
        "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF",
        30.5,
        3.3,
        _kv(48, 4),
        262_144,
        "a large model at a small one's speed: 3.3 of 30.5 thousand million weights a token",
    ),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, what it needs, and whether that fits into `limit`, all in bytes."""

    model: Model
    limit: int

    @property
    def fits(self) -> bool:
        return self.model.needs_bytes <= self.limit

    @property
    def arithmetic(self) -> str:
        model = self.model
        kv = JOBS * JOB_TOKENS * model.kv_bytes
        return (
            f"{model.parameters:g} G weights × {BITS_PER_WEIGHT:g} bits = {model.weights_bytes / GB:.1f} GB"
            f" + {JOBS} jobs × {JOB_TOKENS:,} tokens × {model.kv_bytes / 1e3:.0f} kB = {kv / GB:.1f} GB"
            f" → {model.needs_bytes / GB:.1f} GB of {self.limit / GB:.1f} GB"
        )


def choices(total: int) -> list[Choice]:
    """Every model for a machine with `total` bytes of memory, the best that fits first, then what does not fit."""
    limit = int(total * OF_TOTAL)
    made = [Choice(model, limit) for model in CATALOGUE]
    return sorted(made, key=lambda choice: (not choice.fits, choice.model.parameters * (-1 if choice.fits else 1)))
