"""One request within an engine that batches: whether it fits, its prompt as tokens, and its growing answer."""

from dataclasses import dataclass, field, replace
from typing import Any

from pylon.errors import PromptError
from pylon.inference.batching.answer import Answer
from pylon.inference.batching.interfaces import Model
from pylon.inference.batching.prefixes import Prefix
from pylon.inference.batching.reuse import AnswerKey
from pylon.inference.engine import GenerationRequest, ModelInfo, Sampling, ScoreRequest
from pylon.inference.schema.guide import SchemaGuide


@dataclass(slots=True, eq=False)
class BatchedRequest:
    """A request with its prompt's `tokens` and its answer so far.

    `key` is the same for equal greedy requests. `guide` follows its JSON schema. `sheds` counts how often it was put
    back for lack of memory. `prefix` is the shared prefix that it starts from.
    """

    request: GenerationRequest
    tokens: list[int]
    key: AnswerKey | None
    answer: Answer = field(init=False)
    guide: SchemaGuide | None = None
    uid: int = -1
    started: float = 0.0
    sheds: int = 0
    prefix: Prefix[Any] | None = None

    def begin(self, model: Model[Any]) -> None:
        """Begins its answer, and anew after it was put back. Raises ParameterError for its JSON schema."""
        self.answer = Answer(model.detokenizer(), self.sampling.stop)
        if self.guide is not None:
            self.guide = self.guide.again()
        elif self.sampling.schema is not None:
            self.guide = model.schemas.guide(self.sampling.schema)

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def length(self) -> int:
        """The most tokens that its row may grow to."""
        return len(self.tokens) + self.request.sampling.max_tokens

    @property
    def known(self) -> int:
        """Tokens of its prompt that are in the shared prefix and need not be computed."""
        return len(self.prefix.tokens) if self.prefix is not None else 0

    @property
    def sampling(self) -> Sampling:
        return self.request.sampling

    @property
    def alone(self) -> bool:
        """Whether it must run alone, since its answer is drawn with a seed. Greedy decoding draws nothing."""
        return self.sampling.seed is not None and not self.sampling.greedy


def bounded(request: GenerationRequest, model: ModelInfo) -> GenerationRequest:
    """The request with `max_tokens` bounded by the longest answer that the model is made for."""
    longest, sampling = model.max_completion_tokens, request.sampling
    if not 0 < longest < sampling.max_tokens:
        return request
    return replace(request, sampling=replace(sampling, max_tokens=longest))


def fitting(model: Model[Any], request: GenerationRequest, memory: int) -> list[int]:
    """The tokens of its prompt. `memory` is the most tokens that fit for one request. Raises PromptError."""
    sampling = request.sampling
    if sampling.max_tokens < 1 or not sampling.temperature >= 0:
        raise PromptError("max_tokens must be at least 1, and the temperature at least 0")
    tokens = model.prompt(request.messages, request.customer)
    context = model.info.context
    room = min(context, memory) - sampling.max_tokens
    if not tokens or len(tokens) > room:
        limit = f"the model's context is {context}" if context <= memory else f"memory here holds {memory}"
        raise PromptError(
            f"the prompt has {len(tokens)} tokens and asks for {sampling.max_tokens} more; {limit} tokens",
            hint=f"With max_tokens {sampling.max_tokens}, a prompt of 1 to {max(room, 0)} tokens fits.",
        )
    return tokens


def scorable(model: Model[Any], request: ScoreRequest) -> tuple[list[int], list[int]]:
    """The tokens of prompt and answer. Raises PromptError if both do not fit into the model's context."""
    prompt, answer = model.prompt(request.messages), model.answer_tokens(request.answer)
    if not prompt or len(prompt) + len(answer) > model.info.context:
        raise PromptError("the prompt and its answer do not fit into this model's context window")
    return prompt, answer
