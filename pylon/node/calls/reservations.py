"""What callers of `ask` and `map` set aside for each, by the names that they gave: so they learn what it came to also
when they had gone by then.

A name is known from the first moment of its call until some minutes after its cost was decided.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pylon.clock import Clock
from pylon.errors import UsageError
from pylon.node.calls.params import Params, text, whole

if TYPE_CHECKING:
    from pylon.swarm.runs.reservation import CallReservation

# Whoever asks after it does so every minute at least.
KEEP_S = 300.0
_LONGEST_NAME = 64
_MOST_NAMES = 10_000


class Reservations:
    """Those of one core. They end with its process: whoever asks after an older one is told that it is not known."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_name: dict[str, CallReservation] = {}
        # When to look whether one that is over can be forgotten, the first of them first, and whether it was decided
        # at the look before that.
        self._over: deque[tuple[float, str, bool]] = deque()

    @contextmanager
    def of(self, params: Params) -> "Iterator[CallReservation | None]":
        """The reservation of a call with these parameters, for as long as that lasts: `budget_msat`, and
        `reservation`, its name, where its caller wants to ask after it. Raises `UsageError`."""
        budget, name = whole(params, "budget_msat", None), text(params, "reservation", None)
        if budget is None:
            if name is not None:
                raise UsageError("the reservation has no amount", hint="Add a budget_msat.")
            yield None
            return
        # A node that only serves holds in memory nothing of what asking takes.
        from pylon.swarm.runs.reservation import CallReservation

        reservation = CallReservation(budget)
        if name is not None:
            self._add(name, reservation)
        try:
            yield reservation
        finally:
            reservation.end()
            if name is not None:
                self._over.append((self._clock.monotonic() + KEEP_S, name, reservation.decided))

    def told(self, params: Params) -> dict[str, Any]:
        """The `reservations` call: what each of the `names` came to up to now. Raises `UsageError`."""
        names = params.get("names")
        if not isinstance(names, list) or len(names) > _MOST_NAMES or not all(isinstance(one, str) for one in names):
            raise UsageError(f"names must be a list of at most {_MOST_NAMES:,} strings")
        self._forget()
        return {"reservations": {name: self._row(name) for name in names}}

    def _add(self, name: str, reservation: "CallReservation") -> None:
        self._forget()
        if not 1 <= len(name) <= _LONGEST_NAME:
            raise UsageError(f"a reservation's name must have 1 to {_LONGEST_NAME} characters")
        if name in self._by_name:
            raise UsageError("there is already a reservation with this name", hint="Give each call its own name.")
        self._by_name[name] = reservation

    def _row(self, name: str) -> dict[str, Any] | None:
        if (found := self._by_name.get(name)) is None:
            return None
        cost = {"charged_msat": found.charged_msat, "most_msat": found.most_msat}
        return {**cost, "over": found.over, "decided": found.decided}

    def _forget(self) -> None:
        now = self._clock.monotonic()
        while self._over and self._over[0][0] <= now:
            _, name, decided = self._over.popleft()
            if decided:
                del self._by_name[name]
            else:
                self._over.append((now + KEEP_S, name, self._by_name[name].decided))
