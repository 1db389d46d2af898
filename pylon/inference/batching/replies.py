"""The events of an answer: for the request that is computed, and for equal requests that wait for its answer."""

from typing import Literal

from pylon.clock import Clock
from pylon.inference.batching.request import BatchedRequest
from pylon.inference.batching.reuse import AnswerKey, AnswerStore, EqualRequests
from pylon.inference.engine import Event, Failed, Finished, Generation, Progress


class Replies:
    """Earlier answers, and the requests that wait for the answer of an equal one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.answers = AnswerStore()
        self._equal: EqualRequests[BatchedRequest] = EqualRequests()

    def known(self, request_id: str, key: AnswerKey | None) -> Finished | None:
        """The answer that the same customer got before to an equal request; None if there is none."""
        generation = None if key is None else self.answers.find(key)
        return None if generation is None else Finished(request_id, generation)

    def lead(self, sequence: BatchedRequest) -> bool:
        """Whether it has to be computed; if not, it waits for the answer of an equal request."""
        return sequence.key is None or self._equal.lead(sequence.key, sequence)

    def cancel(self, request_id: str) -> None:
        """Drops a request that waits for the answer of another."""
        self._equal.cancel(request_id)

    def promote(self, gone: BatchedRequest) -> BatchedRequest | None:
        """The request that takes the place of a cancelled one whose answer it waited for; None if none did."""
        followers = self._equal.end(gone.key) if gone.key is not None else []
        leaders = [follower for follower in followers if self.lead(follower)]
        return leaders[0] if leaders else None

    def progress(self, sequence: BatchedRequest) -> list[Event]:
        """The answer so far, for those that want it as it grows. Called for each token."""
        followers = self._equal.followers(sequence.key) if sequence.key is not None else ()
        told = [each.id for each in (sequence, *followers) if each.request.stream]
        if not told:
            return []
        # Once for all of them: with many long stop strings it takes as long as a small model's step.
        shown, tokens, read = sequence.answer.shown, sequence.answer.tokens, len(sequence.tokens)
        return [Progress(each, shown, tokens, read) for each in told]

    def finished(self, sequence: BatchedRequest, finish: Literal["stop", "length"]) -> list[Event]:
        generation = Generation(
            text=sequence.answer.text,
            finish=finish,
            prompt_tokens=len(sequence.tokens),
            completion_tokens=sequence.answer.tokens,
            run_ms=round((self._clock.monotonic() - sequence.started) * 1000),
        )
        if sequence.key is not None:
            self.answers.put(sequence.key, generation)
        return [Finished(each.id, generation) for each in self._all(sequence)]

    def failed(self, sequence: BatchedRequest, message: str) -> list[Event]:
        """The failure, for the request and for all that waited for its answer, which would fail alike."""
        return [Failed(each.id, "engine", message) for each in self._all(sequence)]

    def _all(self, sequence: BatchedRequest) -> list[BatchedRequest]:
        return [sequence, *(self._equal.end(sequence.key) if sequence.key is not None else ())]
