"""The loop that steps an engine: takes commands between steps, sends the events of each step, and sends beats."""

import contextlib
import queue
from collections.abc import Callable, Sequence

from pylon.clock import Clock
from pylon.errors import WireError
from pylon.inference.child.intake import Command, Intake, Prepared, refusal
from pylon.inference.child.messages import Beat, Cancel, Close, FromChild, Load, Score
from pylon.inference.engine import Engine, Event, Failed, Preparing, Progress, ScoreRequest, Scoring

BEAT_S = 0.5
# Requests of one run come in a burst. An idle engine waits for so many seconds without a further one, and at most for
# so many in all, so that they are read in one group.
_QUIET_S, _BURST_S = 0.003, 0.03
# Seconds between two progress messages of a request: twice as often as relays are sent partial answers.
PROGRESS_S = 0.25


class EngineLoop:
    """Steps one engine until the node says `Close`."""

    def __init__(
        self, engine: Engine, intake: Intake, send: Callable[[Sequence[FromChild]], None], clock: Clock
    ) -> None:
        """`send` writes several messages at once; if it raises WireError, none was sent."""
        self._engine = engine
        self._intake = intake
        self._send = send
        self._clock = clock
        self._shown: dict[str, float] = {}  # streamed requests, and when their progress was last told
        self._busy_s = 0.0
        self._beat_at = clock.monotonic()

    def run(self) -> None:
        """Runs until Close."""
        while self._take_commands():
            if self._engine.busy:
                began = self._clock.monotonic()
                self._tell(self._engine.step())
                self._busy_s += self._clock.monotonic() - began
            self._beat()

    def _take_commands(self) -> bool:
        # An idle child waits here, but not past its next beat.
        idle = not self._engine.busy
        wait, until = BEAT_S if idle else 0.0, float("inf")
        with contextlib.suppress(queue.Empty):
            while True:
                command = self._intake.get(wait)
                if isinstance(command, Close):
                    return False
                self._follow(command)
                if idle:
                    now = self._clock.monotonic()
                    until = min(until, now + _BURST_S)
                    wait = self._worth_waiting(until - now)
        return True

    def _worth_waiting(self, most_s: float) -> float:
        """Seconds that an idle engine waits for further requests before it starts."""
        if not isinstance(self._engine, Preparing) or self._engine.gathered:
            return 0.0
        return most_s if self._intake.preparing else min(_QUIET_S, most_s)

    def _follow(self, command: Command) -> None:
        match command:
            case Prepared():
                self._take(command)
            case Failed():
                self._send([command])
            case Score():
                self._score(command.request)
            case Cancel():
                self._shown.pop(command.id, None)
                self._engine.cancel(command.id)
            case Load():
                raise WireError("a second load: one child runs one model")

    def _take(self, prepared: Prepared) -> None:
        try:
            prepared.take()
        except Exception as error:  # one request's fault must not take its neighbours down
            self._send([refusal(prepared.id, error)])
        else:
            if prepared.stream:
                self._shown[prepared.id] = float("-inf")

    def _score(self, request: ScoreRequest) -> None:
        if not isinstance(self._engine, Scoring):
            self._send([Failed(request.id, "engine", "this engine cannot read answers of others")])
            return
        try:
            self._send([self._engine.score(request)])
        except Exception as error:  # a stranger's text must not end the child
            self._send([Failed(request.id, "engine", f"the answer could not be read ({type(error).__name__})")])

    def _tell(self, events: Sequence[Event]) -> None:
        wanted = [event for event in events if self._is_wanted(event)]
        if not wanted:
            return
        try:
            self._send(wanted)
        except WireError:
            # One of them is too large for a frame; the others are sent.
            for event in wanted:
                self._tell_alone(event)

    def _tell_alone(self, event: Event) -> None:
        try:
            self._send([event])
        except WireError as error:
            self._shown.pop(event.id, None)
            self._engine.cancel(event.id)
            self._send([Failed(event.id, "engine", f"the answer cannot be passed on: {error}")])

    def _is_wanted(self, event: Event) -> bool:
        if not isinstance(event, Progress):
            self._shown.pop(event.id, None)
            return True
        now = self._clock.monotonic()
        shown = self._shown.get(event.id)
        if shown is None or now - shown < PROGRESS_S:
            return False
        self._shown[event.id] = now
        return True

    def _beat(self) -> None:
        """Sends a beat, but not while the preparation of a request hangs: then this child is to be replaced."""
        now = self._clock.monotonic()
        if now - self._beat_at >= BEAT_S > self._intake.preparing_s:
            self._beat_at = now
            count = self._engine.tokens
            self._send([Beat(count.prompt, count.completion, self._busy_s, count.read)])
