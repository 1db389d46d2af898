"""The loop around an engine: what it waits for, and when it says that it lives."""

import queue
from collections.abc import Sequence

import pytest

from pylon.frames import encode
from pylon.inference.child.intake import Command, Prepared
from pylon.inference.child.loop import BEAT_S, EngineLoop
from pylon.inference.child.messages import Beat, Close
from pylon.inference.engine import Event, Failed, Finished, Generation, Progress, TokenCount
from tests.manual_clock import ManualClock


class Batching:
    """Is done with all that it has after one step; `enough` is how many are worth no further waiting."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self.waiting = 0
        self.steps: list[int] = []
        self.tokens = TokenCount()

    def prepare(self, request: object) -> object:
        return request

    def take(self, ready: object = None) -> None:
        self.waiting += 1

    @property
    def gathered(self) -> bool:
        return self.waiting >= self._enough

    @property
    def busy(self) -> bool:
        return self.waiting > 0

    def step(self) -> Sequence[Event]:
        self.steps.append(self.waiting)
        self.waiting = 0
        return []


class Arriving:
    """Stands in for the intake: hands commands out at their times, of a clock that waiting moves."""

    def __init__(self, clock: ManualClock, commands: Sequence[tuple[float, Command]], ready_s: float = 0.0) -> None:
        """Until `ready_s` there is something that is not ready."""
        self._clock = clock
        self._left = list(commands)
        self._ready_s = ready_s
        self.preparing_s = 0.0

    @property
    def preparing(self) -> bool:
        return self._clock.monotonic() < self._ready_s

    def get(self, wait_s: float) -> Command:
        now = self._clock.monotonic()
        if self._left[0][0] > now + max(wait_s, 0):
            self._clock.advance(max(wait_s, 0))
            raise queue.Empty
        at, command = self._left.pop(0)
        self._clock.advance(max(0, at - now))
        return command


def groups(engine: Batching, times: Sequence[float], ready_s: float = 0.0) -> list[int]:
    """How many requests each step began with, when they came at these times."""
    clock = ManualClock()
    commands: list[tuple[float, Command]] = [(at, Prepared(str(at), False, engine.take)) for at in times]
    intake = Arriving(clock, [*commands, (times[-1] + 1, Close())], ready_s)
    EngineLoop(engine, intake, lambda _: None, clock).run()
    return engine.steps


def test_what_comes_in_a_burst_is_taken_together() -> None:
    assert groups(Batching(100), [0, 0.002, 0.004, 0.006]) == [4]


def test_a_moment_of_quiet_ends_a_burst_unless_something_is_being_made_ready() -> None:
    assert groups(Batching(100), [0, 0.02]) == [1, 1]
    assert groups(Batching(100), [0, 0.02], ready_s=0.02) == [2]


def test_nobody_waits_longer_for_a_burst_than_for_thirty_milliseconds() -> None:
    steady = [number * 0.002 for number in range(30)]
    assert groups(Batching(100), steady)[0] in (15, 16)
    assert groups(Batching(100), [0, 0.2], ready_s=0.2) == [1, 1]


def test_so_many_as_are_worth_no_waiting_start_at_once() -> None:
    assert groups(Batching(2), [0, 0.001, 0.002]) == [2, 1]


def test_an_engine_that_gathers_nothing_starts_each_as_it_comes() -> None:
    assert groups(Batching(0), [0, 0.001, 0.002]) == [1, 1, 1]


def test_it_beats_also_when_idle_but_not_while_one_request_is_made_ready_for_longer_than_a_beat() -> None:
    def beats(preparing_s: float) -> int:
        clock = ManualClock()
        intake = Arriving(clock, [(10 * BEAT_S, Close())])
        intake.preparing_s = preparing_s
        sent: list[object] = []
        EngineLoop(Batching(1), intake, sent.extend, clock).run()
        return sum(isinstance(message, Beat) for message in sent)

    assert beats(0) >= 9
    assert beats(BEAT_S / 2) >= 9
    assert beats(2 * BEAT_S) == 0


def test_what_the_engine_does_not_take_is_told() -> None:
    def refuse() -> None:
        raise RuntimeError("quoting the secret prompt")

    clock = ManualClock()
    intake = Arriving(clock, [(0, Prepared("1", True, refuse)), (1, Close())])
    sent: list[object] = []
    EngineLoop(Batching(1), intake, sent.extend, clock).run()
    assert sent[0] == Failed("1", "engine", "the engine could not take the prompt (RuntimeError)")


def told_of(*events: Event) -> tuple[list[object], list[str]]:
    """What goes out of one step that brought these events, and the requests that were cancelled over it."""
    engine, clock, sent, cancelled = Batching(1), ManualClock(), [], []
    engine.step = lambda: (Batching.step(engine), events)[1]
    engine.cancel = cancelled.append

    def send(messages: Sequence[object]) -> None:
        for message in messages:
            encode(message)
        sent.extend(messages)

    commands: list[tuple[float, Command]] = [(0, Prepared(event.id, True, engine.take)) for event in events]
    EngineLoop(engine, Arriving(clock, [*commands, (1, Close())]), send, clock).run()
    return [message for message in sent if not isinstance(message, Beat)], cancelled


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Progress("bad", "\ud83d", 1), "surrogates"),
        (Finished("bad", Generation("\ud83d", "stop", 1, 1, 1)), "surrogates"),
        (Finished("bad", Generation("x", "stop", 2**70, 1, 1)), "64-bit"),
        (Finished("bad", Generation("\x01" * 3_000_000, "stop", 1, 1, 1)), "bytes"),
    ],
)
def test_an_answer_that_no_frame_can_say_fails_alone(bad: Event, why: str) -> None:
    before, after = (Finished(key, Generation("well", "stop", 1, 1, 1)) for key in ("before", "after"))
    [first, failed, last], cancelled = told_of(before, bad, after)
    assert (first, last) == (before, after)
    assert isinstance(failed, Failed) and (failed.id, failed.error) == ("bad", "engine") and why in failed.message
    assert cancelled == ["bad"], "nobody waits for the rest of it"
