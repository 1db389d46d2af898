"""The stand-in engine: answers from a table or by a rule, without any model.

It is for tests and benchmarks of everything around a model. Its model id is always `stand-in-instant`, so that every
receipt shows what made the answer.
"""

import hashlib
import time
from collections import deque
from dataclasses import dataclass

import orjson

from pylon.clock import Clock, SystemClock
from pylon.errors import ModelError, PromptError
from pylon.inference.engine import (
    EngineSpec,
    Event,
    Finished,
    Generation,
    GenerationRequest,
    ModelInfo,
    Progress,
    Scored,
    ScoreRequest,
    TokenCount,
)
from pylon.inference.stops import find_stop

MODEL_ID = "stand-in-instant"
CONTEXT_TOKENS = 32_768
_RULE_WORDS = 12
# Seconds that one step may sleep: a cancelled request is dropped within that time.
_STEP_S = 0.005


@dataclass(slots=True)
class _Answer:
    """A request that is being answered. `told` of its `words` were reported; `next` is the time of the next event.

    Times are monotonic seconds.
    """

    request: GenerationRequest
    prompt_tokens: int
    started: float
    due: float
    next: float
    words: tuple[str, ...] = ()
    told: int = 0


class InstantEngine:
    """`options`: `table` maps a prompt (the last message) to its answer; `delay_s` is seconds for an answer.

    A streamed answer comes word by word, evenly over that time.
    """

    def __init__(self, spec: EngineSpec, clock: Clock | None = None) -> None:
        if spec.model != MODEL_ID:
            raise ModelError(
                f"the instant engine is a stand-in, and its only model is {MODEL_ID}",
                hint=f"Set the model to {MODEL_ID}, or the engine to mlx.",
            )
        table = spec.options.get("table", {})
        delay_s = spec.options.get("delay_s", 0.0)
        if not isinstance(table, dict) or not isinstance(delay_s, int | float):
            raise ModelError("the instant engine's options are `table`, an object, and `delay_s`, a number")
        self._table = {str(prompt): str(answer) for prompt, answer in table.items()}
        self._delay_s = float(delay_s)
        self._slots = spec.slots
        self._clock = clock or SystemClock()
        self._waiting: deque[tuple[GenerationRequest, int]] = deque()
        self._running: dict[str, _Answer] = {}
        self._tokens = TokenCount()

    def load(self) -> ModelInfo:
        sha256 = hashlib.sha256(orjson.dumps(self._table, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return ModelInfo(id=MODEL_ID, sha256=sha256, quantization="none", context=CONTEXT_TOKENS, engine="instant")

    def add(self, request: GenerationRequest) -> None:
        size = _prompt_tokens(request)
        if size + request.sampling.max_tokens > CONTEXT_TOKENS:
            raise PromptError(
                f"the prompt has {size} tokens and asks for {request.sampling.max_tokens} more; "
                f"the stand-in takes {CONTEXT_TOKENS} in all",
                hint="Send a shorter prompt or ask for fewer tokens.",
            )
        self._waiting.append((request, size))

    def cancel(self, request_id: str) -> None:
        self._running.pop(request_id, None)
        self._waiting = deque(waiting for waiting in self._waiting if waiting[0].id != request_id)

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def tokens(self) -> TokenCount:
        return self._tokens

    def step(self) -> list[Event]:
        now = self._clock.monotonic()
        while self._waiting and len(self._running) < self._slots:
            request, size = self._waiting.popleft()
            self._running[request.id] = self._begun(request, size, now)
        ready = [answer for answer in self._running.values() if answer.next <= now]
        if not ready:
            first = min(answer.next for answer in self._running.values())
            time.sleep(min(first - now, _STEP_S))
        events: list[Event] = []
        for answer in ready:
            if now < answer.due:
                events.append(self._grown(answer, now))
                continue
            del self._running[answer.request.id]
            generation = self._generation(answer, now)
            tokens = (generation.completion_tokens, generation.prompt_tokens)
            events.append(Progress(answer.request.id, generation.text, *tokens))
            events.append(Finished(answer.request.id, generation))
            self._tokens = TokenCount(
                self._tokens.prompt + generation.prompt_tokens,
                self._tokens.completion + generation.completion_tokens,
            )
        return events

    def score(self, request: ScoreRequest) -> Scored:
        """Ranks by a rule: the words that the stand-in would say have rank 0, all others rank 100."""
        prompt = request.messages[-1].content if request.messages else ""
        own = self._said(prompt).split(" ")
        said = request.answer.split(" ")
        ranks = tuple(0 if n < len(own) and word == own[n] else 100 for n, word in enumerate(said))
        return Scored(request.id, (*ranks, 0 if len(said) == len(own) else 100))

    def close(self) -> None:
        self._running.clear()
        self._waiting.clear()

    def _begun(self, request: GenerationRequest, size: int, now: float) -> _Answer:
        due = now + self._delay_s
        answer = _Answer(request, size, now, due, due)
        if request.stream and self._delay_s:
            answer.words = tuple(self._generation(answer, now).text.split(" "))
            answer.next = self._time_of(answer, 1)
        return answer

    def _time_of(self, answer: _Answer, word: int) -> float:
        """The time at which the answer has so many words; the last comes at its end."""
        count = len(answer.words)
        return answer.due if word >= count else answer.started + self._delay_s * word / count

    def _grown(self, answer: _Answer, now: float) -> Progress:
        """The progress with all words that are due by now."""
        while self._time_of(answer, answer.told + 1) <= now:
            answer.told += 1
        answer.next = self._time_of(answer, answer.told + 1)
        text = " ".join(answer.words[: answer.told])
        return Progress(answer.request.id, text, answer.told, answer.prompt_tokens)

    def _said(self, prompt: str) -> str:
        known = self._table.get(prompt)
        return _rule(prompt) if known is None else known

    def _generation(self, answer: _Answer, now: float) -> Generation:
        request = answer.request
        prompt = request.messages[-1].content if request.messages else ""
        words = self._said(prompt).split(" ")
        kept = " ".join(words[: request.sampling.max_tokens])
        stop = find_stop(kept, request.sampling.stop)
        cut = kept if stop is None else kept[:stop]
        return Generation(
            text=cut,
            finish="length" if stop is None and len(words) > request.sampling.max_tokens else "stop",
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=_words(cut),
            run_ms=round((now - answer.started) * 1000),
        )


def _rule(prompt: str) -> str:
    """An answer that depends on the whole prompt and shows its first words."""
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"stand-in answer {digest}: " + " ".join(prompt.split(None, _RULE_WORDS)[:_RULE_WORDS])


def _prompt_tokens(request: GenerationRequest) -> int:
    return sum(_words(message.content) for message in request.messages)


def _words(text: str) -> int:
    """Counts the stand-in's tokens, which are separated by spaces."""
    return text.count(" ") + 1 if text else 0
