"""The protocol of an engine, and its values: requests, answers, events, and what an engine can do.

An engine lives in the inference child and is driven by one loop. Requests join and leave between two calls of `step`,
so continuous batching is the engine's own matter and does not show to its callers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pylon.records import record

# Below this, temperature and top_p count as 0: the likeliest of a million tokens has at least such a share.
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
        """Whether the likeliest token is taken each time, so that nothing is drawn."""
        # Tiny values count as 0, too: samplers divide by the temperature, and find no token within a tiny top_p.
        return self.temperature < _LEAST or self.top_p < _LEAST


@record
class GenerationRequest:
    """One prompt to answer. Only requests of the same `customer` may share computation.

    With `stream` the answer is wanted as it grows; without, the engine need not report progress.
    """

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling
    model: str
    customer: str = ""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """An answer that the model reads and ranks, as if it had written it itself."""

    id: str
    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Generation:
    """An answer. `run_ms` counts from the first computation for the request, not from its arrival."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    run_ms: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that answers. `sha256` is the hash of its weights (see `models/weights.py`), `context` is in tokens.

    `max_completion_tokens` is the longest answer that it is made for (see `models/description.py`), and bounds every
    answer; 0 if its files do not say.
    """

    id: str
    sha256: str
    quantization: str
    context: int
    engine: str
    max_completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens since the engine was loaded: of answered prompts, and of answers.

    `read` is how many prompt tokens were computed: fewer than `prompt` where prefixes are shared.
    """

    prompt: int = 0
    completion: int = 0
    read: int = 0


# The events of a step are sent over the child's pipe as they are; `type` distinguishes them there.


@dataclass(frozen=True, slots=True)
class Progress:
    """The whole text so far, without a tail that may become a stop string.

    `prompt_tokens` is 0 as long as the engine does not know it.
    """

    id: str
    text: str
    completion_tokens: int
    prompt_tokens: int = 0
    type: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer to a request."""

    id: str
    generation: Generation
    type: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class Scored:
    """`ranks`: a number for each token of the answer (0: the model's first choice), and one for ending after it."""

    id: str
    ranks: tuple[int, ...]
    type: Literal["scored"] = "scored"


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that failed. `error` is `prompt` or `parameter` if it can never be answered here, else `engine`."""

    id: str
    error: Literal["prompt", "parameter", "engine"]
    message: str
    hint: str = ""
    type: Literal["failed"] = "failed"


Event = Progress | Finished | Failed


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine runs which model, and how many requests it runs at once (`slots`).

    `model_dir` is the folder of an MLX model (see `weights.model_directory`), `model_file` the GGUF file of llama.cpp
    (see `weights.gguf_file`); other engines need neither. `hash_cache` is a file that caches the hashes of weights.
    `memory` is the most bytes that the engine may use, or 0 for what the machine allows. `options` are its own.
    """

    engine: str
    model: str
    model_dir: Path | None = None
    slots: int = 16
    hash_cache: Path | None = None
    memory: int = 0
    options: Mapping[str, object] = field(default_factory=dict)
    model_file: Path | None = None


# Engines that can make answers follow a JSON schema.
SCHEMA_ENGINES = frozenset({"mlx", "llama", "openai"})


@runtime_checkable
class Scoring(Protocol):
    """An engine that can also rank the answers of others. Not every engine can."""

    def score(self, request: ScoreRequest) -> Scored:
        """Computes the ranks at once: reading takes a fraction of the time of writing. Raises PromptError."""


@runtime_checkable
class Preparing[Ready](Protocol):
    """An engine that can prepare requests on other threads while it computes."""

    def prepare(self, request: GenerationRequest) -> Ready:
        """Prepares a request. Called on two other threads: one for requests with a JSON schema, one for the others.

        Raises PromptError or ParameterError.
        """

    def take(self, ready: Ready) -> None:
        """Adds a prepared request; `prepare` and `take` together do what `add` does."""

    @property
    def gathered(self) -> bool:
        """Whether so many requests wait that waiting for more before the first step gains nothing."""


class Engine(Protocol):
    """A model that answers. All calls come from one thread."""

    def load(self) -> ModelInfo:
        """Loads the model. Raises ModelError."""

    def add(self, request: GenerationRequest) -> None:
        """Adds a request, which runs when a slot is free.

        Raises PromptError or ParameterError, and then keeps nothing of it.
        """

    def cancel(self, request_id: str) -> None:
        """Cancels a request at any stage; no event of it follows. Unknown ids are ignored."""

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do."""

    @property
    def tokens(self) -> TokenCount:
        """The tokens computed so far."""

    def step(self) -> Sequence[Event]:
        """Computes a little, at most one token for each request; returns the events."""

    def close(self) -> None:
        """Frees the model."""
