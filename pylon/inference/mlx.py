"""The MLX engine: requests join and leave one running batch.

Waiting prompts are read in groups of like length, a head that several of a customer's prompts share is read once,
and so is a prompt that is asked twice. What starts fits into memory (`memory.py`). A request with a seed that matters
runs alone: a batch has one source of randomness, so beside others its draws would depend on them.
"""

import itertools
import os
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import mlx.core as mx

from pylon.clock import Clock, SystemClock
from pylon.errors import PromptError
from pylon.host.memory import used_bytes
from pylon.inference.answer import Answer
from pylon.inference.asked import Asked
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
    Scored,
    ScoreRequest,
    TokenCount,
)
from pylon.inference.headroom import Headroom
from pylon.inference.heads import Head, Heads
from pylon.inference.mlx_model import LogitsProcessor, MlxModel, logits_processors, sampler
from pylon.inference.mlx_score import ranks
from pylon.inference.reuse import AnswerStore, Twins, answer_key
from pylon.inference.rows import Row, Rows, Token
from pylon.inference.schema import SchemaGuide

# One chunk stalls the running answers for as long as it takes: so many tokens of one prompt, so many of a group.
PREFILL_STEP_TOKENS = 512
PREFILL_TOKENS = 2_048
# A request that was put back so often for lack of memory will not fit the next time either.
_MOST_SHEDS = 2


def _in_use() -> int:
    # On Metal the process's own size does not count all that its buffers hold.
    return max(used_bytes(), mx.get_active_memory())


class MlxEngine:
    def __init__(self, spec: EngineSpec, clock: Clock | None = None) -> None:
        self._spec = spec
        self._clock = clock or SystemClock()
        self._waiting: deque[Asked] = deque()
        self._running: dict[int, Asked] = {}
        self._uids = itertools.count()
        self._answers = AnswerStore()
        self._twins: Twins[Asked] = Twins()
        self._known: list[Event] = []  # said by the next step without computing
        self._prompt_tokens = self._completion_tokens = self._read_tokens = 0

    def load(self) -> ModelInfo:
        self._model = MlxModel.load(self._spec)
        self._headroom = Headroom(self._model.memory, _in_use, self._clock)
        self._rows = Rows(self._model.network, self._model.stop_tokens(), PREFILL_STEP_TOKENS)
        self._stream = mx.new_stream(mx.default_device())
        with mx.stream(self._stream):
            self._heads = Heads(self._model, PREFILL_STEP_TOKENS)
        return self._model.info

    def add(self, request: GenerationRequest) -> None:
        tokens = self._fitting(request)
        key = answer_key(request.customer, tokens, request.sampling)
        if key is not None and (known := self._answers.find(key)) is not None:
            self._known.append(Finished(request.id, known))
            return
        sequence = Asked(request, tokens, self._answer(request), key, self._guide(request, tokens))
        if key is None or self._twins.lead(key, sequence):
            self._waiting.append(sequence)

    def cancel(self, request_id: str) -> None:
        self._known = [event for event in self._known if event.id != request_id]
        self._twins.cancel(request_id)
        for sequence in [each for each in self._waiting if each.id == request_id]:
            self._waiting.remove(sequence)
            self._promote(sequence)
        for sequence in [each for each in self._running.values() if each.id == request_id]:
            self._leave(sequence, still_generating=True)
            self._promote(sequence)

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running or self._known)

    @property
    def tokens(self) -> TokenCount:
        read = self._read_tokens + self._heads.read
        return TokenCount(self._prompt_tokens, self._completion_tokens, read)

    def step(self) -> list[Event]:
        events, self._known = self._known, []
        if not self._waiting and not self._running:
            return events
        events += self._keep_within_memory()
        with mx.stream(self._stream):
            for token in self._rows.decode():
                events += self._heard(token)
            if not self._heads.advance():
                self._admit()
                self._rows.read()
        return events

    def score(self, request: ScoreRequest) -> Scored:
        """See `Scoring`."""
        prompt = self._model.prompt(request.messages)
        answer = list(self._model.tokenizer.encode(request.answer, add_special_tokens=False))
        if not prompt or len(prompt) + len(answer) > self._model.info.context:
            raise PromptError("The prompt and its answer do not fit this model's context.")
        with mx.stream(self._stream):
            return Scored(request.id, tuple(ranks(self._model, prompt, answer)))

    def close(self) -> None:
        self._waiting.clear()
        self._running.clear()
        del self._rows, self._model, self._heads
        mx.clear_cache()

    def _fitting(self, request: GenerationRequest) -> list[int]:
        """The request's prompt in tokens. Raises PromptError when it can never be answered here."""
        sampling = request.sampling
        if sampling.max_tokens < 1 or not sampling.temperature >= 0:
            raise PromptError("max_tokens must be at least 1, and the temperature at least 0.")
        tokens = self._model.prompt(request.messages)
        context, memory = self._model.info.context, self._model.memory.longest()
        room = min(context, memory) - sampling.max_tokens
        if not tokens or len(tokens) > room:
            limit = f"the model's context is {context}" if context <= memory else f"memory here holds {memory}"
            raise PromptError(
                f"The prompt has {len(tokens)} tokens and asks for {sampling.max_tokens} more; {limit} tokens.",
                hint=f"With max_tokens {sampling.max_tokens}, a prompt of 1 to {max(room, 0)} tokens fits.",
            )
        return tokens

    def _answer(self, request: GenerationRequest) -> Answer:
        return Answer(self._model.detokenizer(), request.sampling.stop)

    def _guide(self, request: GenerationRequest, tokens: list[int]) -> SchemaGuide | None:
        schema = request.sampling.schema
        return None if schema is None else self._model.schemas.guide(schema, len(tokens))

    def _promote(self, gone: Asked) -> None:
        """One of those that waited for a request's answer takes its place."""
        if gone.key is None:
            return
        for follower in self._twins.end(gone.key):
            if self._twins.lead(gone.key, follower):
                self._waiting.append(follower)

    def _keep_within_memory(self) -> list[Event]:
        """Over the hard limit, lets go what is not needed, and then the request that came last."""
        if not self._headroom.over():
            return []
        self._heads.clear()
        mx.clear_cache()
        if not self._headroom.over(now=True) or not self._running:
            return []
        newest = max(self._running.values(), key=lambda sequence: sequence.uid)
        self._leave(newest, still_generating=True)
        mx.clear_cache()
        newest.sheds += 1
        if newest.sheds > _MOST_SHEDS or not self._running:
            return self._failed(newest, "Memory on this machine ran out.")
        newest.answer = self._answer(newest.request)
        newest.guide = self._guide(newest.request, newest.tokens)
        self._waiting.appendleft(newest)
        return []

    def _admit(self) -> None:
        """Starts the request that has waited longest with those that go well beside it, or builds their prefix."""
        free = self._spec.slots - len(self._running)
        # One group is read at a time: a short prompt that joined a long one's chunks would be padded to them.
        if not self._waiting or self._rows.reading or free <= 0:
            return
        first = self._waiting[0]
        if first.alone and not self._running and self._room(first):
            self._start([first])
        if first.alone or any(sequence.alone for sequence in self._running.values()) or not self._room(first):
            return
        customer = first.request.customer
        kin = [each for each in self._waiting if each.request.customer == customer and not each.alone]
        if self._heads.begin(customer, first.tokens, [each.tokens for each in kin[1:]]):
            return
        head = self._heads.find(customer, first.tokens)
        fitting = [each for each in kin if each is first or self._heads.find(customer, each.tokens) is head]
        known = len(head.tokens) if head else 0
        chunk = min(len(first.tokens) - known, PREFILL_STEP_TOKENS)
        group = alike([len(each.tokens) - known for each in fitting], min(free, max(1, PREFILL_TOKENS // chunk)))
        self._start(self._affordable([fitting[place] for place in group]), head)

    def _room(self, first: Asked) -> bool:
        """Whether memory lets it start; alone it always does, since it was taken on."""
        if self._headroom.admits(self._lengths(), first.length, self._heads.size):
            return True
        if self._running:
            return False
        self._heads.clear()
        return True

    def _affordable(self, group: Sequence[Asked]) -> list[Asked]:
        """As many of a group as memory has room for, the first in any case."""
        rows = [*self._lengths(), group[0].length]
        chosen = [group[0]]
        for each in group[1:]:
            if self._headroom.admits(rows, each.length, self._heads.size):
                chosen.append(each)
                rows.append(each.length)
        return chosen

    def _lengths(self) -> list[int]:
        return [each.length for each in self._running.values()]

    def _start(self, group: Sequence[Asked], head: Head | None = None) -> None:
        read = len(head.tokens) if head else 0
        if group[0].alone:
            mx.random.seed((group[0].sampling.seed or 0) % 2**64)
        now = self._clock.monotonic()
        rows = []
        for sequence in group:
            self._waiting.remove(sequence)
            sequence.uid = next(self._uids)
            sequence.started = now
            self._running[sequence.uid] = sequence
            self._read_tokens += len(sequence.tokens) - read
            self._heads.remember(sequence.request.customer, sequence.tokens)
            rows.append(self._row(sequence, read))
        self._rows.start(rows, group[0].tokens[:read], head.state if head else None)

    def _row(self, sequence: Asked, read: int) -> Row:
        return Row(
            sequence.uid,
            sequence.tokens[read:],
            sequence.sampling.max_tokens,
            self._sampler(sequence.sampling),
            self._processors(sequence),
        )

    def _sampler(self, sampling: Sampling) -> Any:
        # mlx_lm refuses to cut to as many tokens as there are.
        top_k = sampling.top_k if 0 < sampling.top_k < len(self._model.tokenizer) else 0
        return sampler(sampling.temperature, sampling.top_p, top_k)

    def _processors(self, sequence: Asked) -> list[LogitsProcessor]:
        processors = logits_processors(sequence.sampling, len(sequence.tokens))
        # Last: no penalty can bring back what the schema rules out.
        return processors if sequence.guide is None else [*processors, sequence.guide]

    def _heard(self, heard: Token) -> list[Event]:
        sequence = self._running[heard.uid]
        try:
            return self._said(sequence, heard.token, heard.finish)
        except Exception as error:  # one answer's text must not take the others down
            self._leave(sequence, still_generating=heard.finish is None)
            return self._failed(sequence, f"The answer could not be read ({type(error).__name__}).")

    def _said(self, sequence: Asked, token: int, finish: str | None) -> list[Event]:
        answer = sequence.answer
        # A stop response carries the stop token, which is no part of the answer.
        stopped = answer.add(token) if finish != "stop" else False
        followers = self._twins.followers(sequence.key) if sequence.key is not None else ()
        if finish is None and not stopped:
            self._count(0, 1)
            return [Progress(each.id, answer.shown, answer.tokens) for each in (sequence, *followers)]
        stopped = answer.end() or finish == "stop"
        self._leave(sequence, still_generating=finish is None)
        self._count(len(sequence.tokens), 1)
        if sequence.guide is not None and sequence.guide.fault:
            return self._failed(sequence, f"The JSON schema could not be followed: {sequence.guide.fault[:200]}")
        generation = self._generation(sequence, "stop" if stopped else "length")
        if sequence.key is None:
            return [Finished(sequence.id, generation)]
        self._answers.put(sequence.key, generation)
        return [Finished(each.id, generation) for each in (sequence, *self._twins.end(sequence.key))]

    def _failed(self, sequence: Asked, message: str) -> list[Event]:
        """For it and for those that waited for its answer: theirs would fail in the same way."""
        twins = self._twins.end(sequence.key) if sequence.key is not None else []
        return [Failed(each.id, "engine", message) for each in (sequence, *twins)]

    def _generation(self, sequence: Asked, finish: Literal["stop", "length"]) -> Generation:
        return Generation(
            text=sequence.answer.text,
            finish=finish,
            prompt_tokens=len(sequence.tokens),
            completion_tokens=sequence.answer.tokens,
            run_ms=round((self._clock.monotonic() - sequence.started) * 1000),
        )

    def _leave(self, sequence: Asked, *, still_generating: bool) -> None:
        del self._running[sequence.uid]
        if still_generating:
            with mx.stream(self._stream):
                self._rows.remove(sequence.uid)
        if sequence.alone:
            # Otherwise whoever comes next would draw what this customer's seed decided.
            mx.random.seed(int.from_bytes(os.urandom(8), "big"))

    def _count(self, prompt: int, completion: int) -> None:
        self._prompt_tokens += prompt
        self._completion_tokens += completion
