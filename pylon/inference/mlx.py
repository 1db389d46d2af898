"""The MLX engine: requests join and leave one running batch of `mlx_lm`'s generator.

Waiting prompts are read in groups of like length, and a head that several of a customer's prompts share is read
once. A request with a seed that matters runs alone: a batch has one source of randomness, so beside others its
draws would depend on them.
"""

import copy
import os
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from pylon.clock import Clock, SystemClock
from pylon.errors import PromptError
from pylon.inference.answer import Answer
from pylon.inference.batching import alike
from pylon.inference.engine import (
    EngineSpec,
    Event,
    Failed,
    Finished,
    Generation,
    GenerationRequest,
    ModelInfo,
    Progress,
    Sampling,
    TokenCount,
)
from pylon.inference.mlx_model import MlxModel, logits_processors, sampler
from pylon.inference.prefixes import Prefix, PrefixStore, worth_sharing

# One chunk stalls the running answers for as long as it takes.
PREFILL_STEP_TOKENS = 512
PREFILL_TOGETHER = 8
# Prompts remembered to see that a customer's next one has the same head, when they come one by one.
_RECENT_PROMPTS = 4
_RECENT_CUSTOMERS = 64


@dataclass(slots=True, eq=False)
class _Sequence:
    request: GenerationRequest
    tokens: list[int]
    answer: Answer
    uid: int = -1
    started: float = 0.0

    @property
    def sampling(self) -> Sampling:
        return self.request.sampling

    @property
    def alone(self) -> bool:
        """Greedy decoding draws nothing, so there a seed changes nothing."""
        return self.sampling.seed is not None and self.sampling.temperature > 0


@dataclass(slots=True, eq=False)
class _Build:
    """A prefix on its way: `done` of its tokens are in `state`."""

    customer: str
    tokens: list[int]
    state: list[Any]
    done: int


class MlxEngine:
    def __init__(self, spec: EngineSpec, clock: Clock | None = None) -> None:
        self._spec = spec
        self._clock = clock or SystemClock()
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[int, _Sequence] = {}
        self._reading: set[int] = set()  # uids whose prompt is not read to its end
        self._recent: OrderedDict[str, deque[list[int]]] = OrderedDict()
        self._prefixes: PrefixStore[list[Any]] = PrefixStore()
        self._build: _Build | None = None
        self._tokens = TokenCount()

    def load(self) -> ModelInfo:
        self._model = MlxModel.load(self._spec)
        self._generator = BatchGenerator(
            self._model.network,
            stop_tokens=self._model.stop_tokens(),
            completion_batch_size=self._spec.slots,
            # Twice, since prompts that were read count until their first token, one call later.
            prefill_batch_size=2 * PREFILL_TOGETHER,
            prefill_step_size=PREFILL_STEP_TOKENS,
        )
        # All that close does is to take back the wired limit that the constructor set on Metal: wiring that much
        # memory can bring macOS down (mlx#3186).
        self._generator.close()
        return self._model.info

    def add(self, request: GenerationRequest) -> None:
        sampling = request.sampling
        if sampling.max_tokens < 1 or not sampling.temperature >= 0:
            raise PromptError("max_tokens must be at least 1, and the temperature at least 0.")
        tokens = self._model.prompt(request.messages)
        room = self._model.info.context - sampling.max_tokens
        if not tokens or len(tokens) > room:
            raise PromptError(
                f"The prompt has {len(tokens)} tokens and asks for {sampling.max_tokens} more; the model's context "
                f"is {self._model.info.context} tokens.",
                hint=f"With max_tokens {sampling.max_tokens}, a prompt of 1 to {max(room, 0)} tokens fits.",
            )
        answer = Answer(self._model.detokenizer(), sampling.stop)
        self._waiting.append(_Sequence(request, tokens, answer))

    def cancel(self, request_id: str) -> None:
        self._waiting = deque(sequence for sequence in self._waiting if sequence.request.id != request_id)
        for sequence in [each for each in self._running.values() if each.request.id == request_id]:
            self._leave(sequence, still_generating=True)

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def tokens(self) -> TokenCount:
        return self._tokens

    def step(self) -> list[Event]:
        with mx.stream(self._generator.stream):
            if self._build is not None:
                self._continue_build(self._build)
            else:
                self._admit()
        prompts, answers = self._generator.next()
        for prompt in prompts:
            if prompt.end_of_segment or prompt.end_of_prompt:
                self._reading.discard(prompt.uid)
        return [self._heard(answer.uid, answer.token, answer.finish_reason) for answer in answers]

    def close(self) -> None:
        self._waiting.clear()
        self._running.clear()
        self._prefixes.clear()
        del self._generator, self._model
        mx.clear_cache()

    def _admit(self) -> None:
        """Starts the request that has waited longest with those that go well beside it, or builds their prefix."""
        free = self._spec.slots - len(self._running)
        # One group is read at a time: a short prompt that joined a long one's chunks would be padded to them.
        if not self._waiting or self._reading or free <= 0:
            return
        first = self._waiting[0]
        if first.alone and not self._running:
            self._start([first])
        if first.alone or any(sequence.alone for sequence in self._running.values()):
            return
        customer = first.request.customer
        prefix = self._prefixes.find(customer, first.tokens)
        kin = [each for each in self._waiting if each.request.customer == customer and not each.alone]
        others = [each.tokens for each in kin[1:]] + list(self._recent.get(customer, ()))
        shared = worth_sharing(first.tokens, others, read=len(prefix.tokens) if prefix else 0)
        if shared:
            self._begin_build(customer, first.tokens[:shared], prefix)
            return
        fitting = [each for each in kin if each is first or self._prefixes.find(customer, each.tokens) is prefix]
        group = alike([len(each.tokens) for each in fitting], min(free, PREFILL_TOGETHER))
        self._start([fitting[place] for place in group], prefix)

    def _begin_build(self, customer: str, tokens: list[int], base: Prefix[list[Any]] | None) -> None:
        if base is None:
            self._build = _Build(customer, tokens, self._model.new_state(), 0)
        else:
            self._build = _Build(customer, tokens, copy.deepcopy(base.state), len(base.tokens))

    def _continue_build(self, build: _Build) -> None:
        """One chunk a step, so that running answers go on. The state ends exactly at the prefix's last token: not
        every model's state can be trimmed."""
        end = min(build.done + PREFILL_STEP_TOKENS, len(build.tokens))
        self._model.read(build.tokens[build.done : end], build.state)
        build.done = end
        if end == len(build.tokens):
            size = sum(layer.nbytes for layer in build.state)
            self._prefixes.put(Prefix(build.customer, build.tokens, build.state, size))
            self._build = None

    def _start(self, group: Sequence[_Sequence], prefix: Prefix[list[Any]] | None = None) -> None:
        read = len(prefix.tokens) if prefix else 0
        if group[0].alone:
            mx.random.seed((group[0].sampling.seed or 0) % 2**64)
        uids = self._generator.insert(
            [each.tokens[read:] for each in group],
            max_tokens=[each.sampling.max_tokens for each in group],
            caches=[prefix.state if prefix else None] * len(group),
            all_tokens=[each.tokens[:read] for each in group],
            samplers=[self._sampler(each.sampling) for each in group],
            logits_processors=[logits_processors(each.sampling, len(each.tokens)) for each in group],
        )
        now = self._clock.monotonic()
        for sequence, uid in zip(group, uids, strict=True):
            self._waiting.remove(sequence)
            sequence.uid = uid
            sequence.started = now
            self._running[uid] = sequence
            self._reading.add(uid)
            self._remember(sequence)

    def _sampler(self, sampling: Sampling) -> Any:
        # mlx_lm refuses to cut to as many tokens as there are.
        top_k = sampling.top_k if 0 < sampling.top_k < len(self._model.tokenizer) else 0
        return sampler(sampling.temperature, sampling.top_p, top_k)

    def _remember(self, sequence: _Sequence) -> None:
        customer = sequence.request.customer
        self._recent.setdefault(customer, deque(maxlen=_RECENT_PROMPTS)).append(sequence.tokens)
        self._recent.move_to_end(customer)
        if len(self._recent) > _RECENT_CUSTOMERS:
            self._recent.popitem(last=False)

    def _heard(self, uid: int, token: int, finish: str | None) -> Event:
        sequence = self._running[uid]
        try:
            return self._said(sequence, token, finish)
        except Exception as error:  # one answer's text must not take the others down
            self._leave(sequence, still_generating=finish is None)
            return Failed(sequence.request.id, "engine", f"The answer could not be read ({type(error).__name__}).")

    def _said(self, sequence: _Sequence, token: int, finish: str | None) -> Event:
        answer = sequence.answer
        # A stop response carries the stop token, which is no part of the answer.
        stopped = answer.add(token) if finish != "stop" else False
        if finish is None and not stopped:
            self._count(0, 1)
            return Progress(sequence.request.id, answer.shown, answer.tokens)
        stopped = answer.end() or finish == "stop"
        self._leave(sequence, still_generating=finish is None)
        self._count(len(sequence.tokens), 1)
        return Finished(sequence.request.id, self._generation(sequence, "stop" if stopped else "length"))

    def _generation(self, sequence: _Sequence, finish: Literal["stop", "length"]) -> Generation:
        return Generation(
            text=sequence.answer.text,
            finish=finish,
            prompt_tokens=len(sequence.tokens),
            completion_tokens=sequence.answer.tokens,
            run_ms=round((self._clock.monotonic() - sequence.started) * 1000),
        )

    def _leave(self, sequence: _Sequence, *, still_generating: bool) -> None:
        del self._running[sequence.uid]
        self._reading.discard(sequence.uid)
        if still_generating:
            with mx.stream(self._generator.stream):
                self._generator.remove([sequence.uid])
        if sequence.alone:
            # Otherwise whoever comes next would draw what this customer's seed decided.
            mx.random.seed(int.from_bytes(os.urandom(8), "big"))

    def _count(self, prompt: int, completion: int) -> None:
        self._tokens = TokenCount(self._tokens.prompt + prompt, self._tokens.completion + completion)
