"""What an engine is, in values: what goes in, what comes out, what it can do.

An engine lives inside the inference child and is driven by one loop: requests join and leave between two calls
of `step`, so continuous batching is an engine's own business and changes nothing for its callers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pylon.records import record

# The likeliest of a million tokens has at least such a share.
_LEAST = 1e-6


@record
class Message:
    """One turn of a chat: `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@record
class Sampling:
    """How tokens are drawn.

    `temperature` 0 is greedy, and so is `top_p` 0. `top_p` 1 and `top_k` 0 cut nothing off. `seed` makes a drawn
    answer reproducible on the same machine. The answer ends before the first of the `stop` strings; they are not part
    of it. With `schema`, the text of a JSON schema, it is JSON that follows it.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    schema: str | None = None

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken each time, and nothing is drawn."""
        # What is next to nothing is nothing: samplers divide by the one, and find no token within the other.
        return self.temperature < _LEAST or self.top_p < _LEAST


@record
class GenerationRequest:
    """One prompt to answer. `customer` keys what may be shared between requests: nothing crosses customers.

    With `stream` its answer is wanted while it is made; without, an engine need not tell of its progress.
    """

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling
    model: str
    customer: str = ""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """An answer to be read by the model, as if it had written it itself."""

    id: str
    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Generation:
    """An answer. `run_ms` counts from the request's first computation, not from its arrival."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    run_ms: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What answers. `sha256` is the weights' hash (see `models/weights.py`), `context` a number of tokens.

    `max_completion_tokens` is the longest answer that it is made for (see `models/description.py`); no longer one
    is written, whatever is asked for. 0: its files do not say.
    """

    id: str
    sha256: str
    quantization: str
    context: int
    engine: str
    max_completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens since the engine was loaded: of prompts answered, of answers given out.

    `read` is how many prompt tokens were computed for it: fewer than `prompt` where heads are shared.
    """

    prompt: int = 0
    completion: int = 0
    read: int = 0


# The events of a step travel over the child's pipe as they are; `type` tells them apart there.


@dataclass(frozen=True, slots=True)
class Progress:
    """The whole text so far, without a tail that may turn out to be a stop string.

    `prompt_tokens` is 0 as long as the engine cannot say.
    """

    id: str
    text: str
    completion_tokens: int
    prompt_tokens: int = 0
    type: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Finished:
    id: str
    generation: Generation
    type: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class Scored:
    """`ranks`: one number a token of the answer (0: the model's first choice there), and one for ending after it."""

    id: str
    ranks: tuple[int, ...]
    type: Literal["scored"] = "scored"


@dataclass(frozen=True, slots=True)
class Failed:
    """`error` is `prompt` or `parameter` when the request can never be answered here, otherwise `engine`."""

    id: str
    error: Literal["prompt", "parameter", "engine"]
    message: str
    hint: str = ""
    type: Literal["failed"] = "failed"


Event = Progress | Finished | Failed


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine runs which model, and how many requests it batches well (`slots`).

    `model_dir` is where an MLX model's files lie (`weights.model_directory` finds it), `model_file` llama.cpp's GGUF
    file (`weights.gguf_file`); other engines need neither. `hash_cache` is a file that remembers weights hashes.
    `memory` is the most bytes that it may use, 0 what the machine allows. `options` are the engine's own settings.
    """

    engine: str
    model: str
    model_dir: Path | None = None
    slots: int = 16
    hash_cache: Path | None = None
    memory: int = 0
    options: Mapping[str, object] = field(default_factory=dict)
    model_file: Path | None = None


# Engines whose answers can be made to follow a JSON schema.
SCHEMA_ENGINES = frozenset({"mlx", "llama", "openai"})


@runtime_checkable
class Scoring(Protocol):
    """A model that can also read answers of others. Not every engine can."""

    def score(self, request: ScoreRequest) -> Scored:
        """Computes it at once: reading takes a fraction of writing. Raises PromptError."""


@runtime_checkable
class Preparing[Ready](Protocol):
    """An engine that can do a part of taking a request in beside its other work."""

    def prepare(self, request: GenerationRequest) -> Ready:
        """Makes a request ready, on other threads than all other calls: one that has a schema, one that has none.

        Raises PromptError or ParameterError.
        """

    def take(self, ready: Ready) -> None:
        """Takes it in; with `prepare` before it this is what `add` does."""

    @property
    def gathered(self) -> bool:
        """Whether so many wait that to wait for more of them before the first step would gain nothing."""


class Engine(Protocol):
    """A model that answers. All calls come from one thread."""

    def load(self) -> ModelInfo:
        """Makes the model ready. Raises ModelError."""

    def add(self, request: GenerationRequest) -> None:
        """Takes a request in; it runs when a slot is free.

        Raises PromptError or ParameterError, and then holds nothing of it.
        """

    def cancel(self, request_id: str) -> None:
        """Lets a request go at whatever stage it is; no event of it follows. Unknown ids are ignored."""

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do."""

    @property
    def tokens(self) -> TokenCount:
        """What has been computed so far."""

    def step(self) -> Sequence[Event]:
        """Computes a little (at most one token a request) and says what came of it."""

    def close(self) -> None:
        """Frees the model."""
