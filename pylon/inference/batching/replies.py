"""What is told of a request's answer: to the request that is computed, and to those that wait for the same answer."""

from typing import Literal

from pylon.clock import Clock
from pylon.inference.batching.asked import Asked
from pylon.inference.batching.reuse import AnswerKey, AnswerStore, Twins
from pylon.inference.engine import Event, Failed, Finished, Generation, Progress


class Replies:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.answers = AnswerStore()
        self._twins: Twins[Asked] = Twins()

    def known(self, request_id: str, key: AnswerKey | None) -> Finished | None:
        """The answer, when the same customer has been given it before."""
        generation = None if key is None else self.answers.find(key)
        return None if generation is None else Finished(request_id, generation)

    def lead(self, sequence: Asked) -> bool:
        """Whether it has to be computed; otherwise it waits for the answer of its equal."""
        return sequence.key is None or self._twins.lead(sequence.key, sequence)

    def cancel(self, request_id: str) -> None:
        """Lets one that waits for another's answer go."""
        self._twins.cancel(request_id)

    def promote(self, gone: Asked) -> Asked | None:
        """That one of those that waited for a request's answer which takes its place."""
        followers = self._twins.end(gone.key) if gone.key is not None else []
        leaders = [follower for follower in followers if self.lead(follower)]
        return leaders[0] if leaders else None

    def progress(self, sequence: Asked) -> list[Event]:
        followers = self._twins.followers(sequence.key) if sequence.key is not None else ()
        answer, read = sequence.answer, len(sequence.tokens)
        return [Progress(each.id, answer.shown, answer.tokens, read) for each in (sequence, *followers)]

    def finished(self, sequence: Asked, finish: Literal["stop", "length"]) -> list[Event]:
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

    def failed(self, sequence: Asked, message: str) -> list[Event]:
        """Those that waited for its answer would fail in the same way."""
        return [Failed(each.id, "engine", message) for each in self._all(sequence)]

    def _all(self, sequence: Asked) -> list[Asked]:
        return [sequence, *(self._twins.end(sequence.key) if sequence.key is not None else ())]
