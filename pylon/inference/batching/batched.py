"""The scheduling of an engine that batches: which requests start when, and which together.

The engines' own files know the model and its batch. A prefix that several prompts of a customer share is read once,
and so is a prompt that is asked twice. Requests start when memory has room for them. A request whose seed matters
runs alone: others in its batch would change its numbers in the last bits.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import Any

from pylon.clock import Clock, SystemClock
from pylon.inference.batching.hooks import EngineHooks
from pylon.inference.batching.interfaces import Token
from pylon.inference.batching.prefixes import Prefix
from pylon.inference.batching.replies import Replies
from pylon.inference.batching.request import BatchedRequest, bounded, fitting, scorable
from pylon.inference.batching.reuse import answer_key
from pylon.inference.batching.score import ranks
from pylon.inference.engine import EngineSpec, Event, GenerationRequest, Scored, ScoreRequest, TokenCount

# A request that was put back more often than this for lack of memory will not fit the next time, either.
_MOST_SHEDS = 2
# Waiting prompts are compared, token by token, with the first one and with all stored prefixes, while running answers
# wait. In one step this looks at so many tokens, which takes some hundredths of a second.
_MOST_COMPARED = 128 * 1024
# So many prompts are read as fast as more would be, and the rest of a burst is prepared meanwhile.
_ENOUGH = 16


class BatchedEngine(EngineHooks):
    """Implements `Engine`, `Preparing` and `Scoring` on the hooks of one engine."""

    def __init__(self, spec: EngineSpec, clock: Clock | None = None) -> None:
        self._spec = spec
        self._clock = clock or SystemClock()
        self._waiting: deque[BatchedRequest] = deque()
        self._running: dict[int, BatchedRequest] = {}
        self._uids = itertools.count()
        self._tokenizing = Lock()  # a tokenizer serves one thread at a time
        self._replies = Replies(self._clock)
        self._known: list[Event] = []  # events for the next step, without computing
        self._prompt_tokens = self._completion_tokens = self._read_tokens = 0

    def add(self, request: GenerationRequest) -> None:
        self.take(self.prepare(request))

    def prepare(self, request: GenerationRequest) -> BatchedRequest:
        """See `Preparing.prepare`."""
        request = bounded(request, self._model.info)
        with self._tokenizing:
            tokens = fitting(self._model, request, self._longest())
        asked = BatchedRequest(request, tokens, answer_key(request.customer, tokens, request.sampling))
        asked.begin(self._model)
        return asked

    def take(self, ready: BatchedRequest) -> None:
        if (known := self._replies.known(ready.id, ready.key)) is not None:
            self._known.append(known)
        elif self._replies.lead(ready):
            self._waiting.append(ready)

    @property
    def gathered(self) -> bool:
        return len(self._waiting) >= min(self._spec.slots, _ENOUGH)

    def cancel(self, request_id: str) -> None:
        self._known = [event for event in self._known if event.id != request_id]
        self._replies.cancel(request_id)
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
        read = self._read_tokens + self._prefixes.read
        return TokenCount(self._prompt_tokens, self._completion_tokens, read)

    def step(self) -> list[Event]:
        events, self._known = self._known, []
        if not self._waiting and not self._running:
            return events
        events += self._keep_within_memory()
        with self._computing():
            if not self._prefixes.advance():
                while self._admit():
                    pass
            for token in self._rows.step():
                events += self._take_token(token)
        return events

    def score(self, request: ScoreRequest) -> Scored:
        """See `Scoring.score`."""
        with self._tokenizing:
            prompt, answer = scorable(self._model, request)
        self._make_room(len(prompt) + len(answer))
        with self._computing():
            return Scored(request.id, tuple(ranks(self._model, prompt, answer)))

    def close(self) -> None:
        self._waiting.clear()
        self._running.clear()
        del self._rows, self._model, self._prefixes
        self._give_back()

    def _promote(self, gone: BatchedRequest) -> None:
        """Starts in its place one of the requests that waited for its answer."""
        follower = self._replies.promote(gone)
        if follower is not None:
            self._waiting.append(follower)

    def _keep_within_memory(self) -> list[Event]:
        """Over the hard memory limit, frees caches and shared prefixes, and then puts back the newest request."""
        if not self._over():
            return []
        self._give_back()
        if not self._over(now=True):
            return []
        self._prefixes.clear()
        self._give_back()
        if not self._over(now=True) or not self._running:
            return []
        newest = max(self._running.values(), key=lambda sequence: sequence.uid)
        self._leave(newest, still_generating=True)
        self._give_back()
        newest.sheds += 1
        if newest.sheds > _MOST_SHEDS or not self._running:
            return self._replies.failed(newest, "Memory on this machine ran out.")
        newest.begin(self._model)
        self._waiting.appendleft(newest)
        return []

    def _admit(self) -> bool:
        """Starts the request that has waited longest, with those that can be read with it, or begins their prefix.

        Returns whether to go on: some were started, and all that could start with them were looked at.
        """
        free = self._spec.slots - len(self._running)
        if not self._waiting or self._rows.reading or free <= 0:
            return False
        first = self._waiting[0]
        if not self._room(first):
            return False
        if first.alone and not self._running:
            self._start([first])
            return True
        if first.alone or any(sequence.alone for sequence in self._running.values()):
            return False
        customer = first.request.customer
        every = [each for each in self._waiting if each.request.customer == customer and not each.alone]
        siblings = _of_most_tokens(every, _MOST_COMPARED)
        if self._prefixes.begin(
            customer, first.tokens, [each.tokens for each in siblings[1:]], self._longest_prefix(first)
        ):
            return False
        prefix = self._prefixes.find(customer, first.tokens)
        sharing = [each for each in siblings if each is first or self._prefixes.find(customer, each.tokens) is prefix]
        for each in sharing:
            each.prefix = prefix
        places = self._together([len(each.tokens) - each.known for each in sharing], free)
        self._start(self._affordable([sharing[place] for place in places]), prefix)
        return len(siblings) == len(every)

    def _room(self, first: BatchedRequest) -> bool:
        """Whether memory has room for it to start. A request that runs alone always fits."""
        first.prefix = None
        if self._admits(list(self._running.values()), first):
            return True
        if self._running:
            return False
        self._prefixes.clear()
        return True

    def _affordable(self, group: Sequence[BatchedRequest]) -> list[BatchedRequest]:
        """As many requests of a group as memory has room for; the first in any case."""
        running = list(self._running.values())
        # Most often all have room. Adding them one by one takes time that is quadratic in the slots.
        if self._admits([*running, *group[:-1]], group[-1]):
            return list(group)
        chosen, beside = [group[0]], [*running, group[0]]
        for each in group[1:]:
            if self._admits(beside, each):
                chosen.append(each)
                beside.append(each)
        return chosen

    def _start(self, group: Sequence[BatchedRequest], prefix: Prefix[Any] | None = None) -> None:
        now = self._clock.monotonic()
        for sequence in group:
            self._waiting.remove(sequence)
            sequence.uid = next(self._uids)
            sequence.started = now
            self._running[sequence.uid] = sequence
            self._read_tokens += len(sequence.tokens) - sequence.known
            self._prefixes.remember(sequence.request.customer, sequence.tokens)
        self._begin(group, prefix)

    def _take_token(self, token: Token) -> list[Event]:
        sequence = self._running[token.uid]
        try:
            return self._extend(sequence, token.token, token.finish)
        except Exception as error:  # one answer's text must not take the others down
            self._leave(sequence, still_generating=token.finish is None)
            return self._replies.failed(sequence, f"the answer could not be read ({type(error).__name__})")

    def _extend(self, sequence: BatchedRequest, token: int, finish: str | None) -> list[Event]:
        answer = sequence.answer
        # A stop response carries the stop token, which is no part of the answer.
        stopped = answer.add(token) if finish != "stop" else False
        self._completion_tokens += 1
        if finish is None and not stopped:
            return self._replies.progress(sequence)
        stopped = answer.end() or finish == "stop"
        self._leave(sequence, still_generating=finish is None)
        self._prompt_tokens += len(sequence.tokens)
        if sequence.guide is not None and sequence.guide.fault:
            fault = f"the JSON schema could not be followed: {sequence.guide.fault[:200]}"
            return self._replies.failed(sequence, fault)
        return self._replies.finished(sequence, "stop" if stopped else "length")

    def _leave(self, sequence: BatchedRequest, *, still_generating: bool) -> None:
        del self._running[sequence.uid]
        if still_generating:
            with self._computing():
                self._rows.remove(sequence.uid)


def _of_most_tokens(requests: Sequence[BatchedRequest], most: int) -> Sequence[BatchedRequest]:
    """As many of the first requests as have `most` tokens in all; the first in any case."""
    ends = itertools.accumulate(len(each.tokens) for each in requests)
    return requests[: max(1, sum(end <= most for end in ends))]
