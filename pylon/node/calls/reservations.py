"""Reservations by name: a caller of `ask` or `map` can learn what its call cost even if it hung up before the end.

A call's `budget_msat` is its reservation, and the caller chooses the name. A name is known from the start of its call
until some minutes after its cost was decided.
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

# A caller who still wants to know asks at least every minute.
KEEP_S = 300.0
_LONGEST_NAME = 64
_MOST_NAMES = 10_000


class Reservations:
    """The reservations of one core. A core that restarts does not know the earlier ones."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_name: dict[str, CallReservation] = {}
        # Reservations whose calls are over, ordered by when (monotonic) to look at each again, and whether it was
        # decided at the last look. One that was is forgotten then.
        self._over: deque[tuple[float, str, bool]] = deque()

    @contextmanager
    def of(self, params: Params) -> "Iterator[CallReservation | None]":
        """A context manager around a call: its reservation of `budget_msat`, or None without one. `reservation` is
        its name, if the caller wants to ask about it. Raises `UsageError`."""
        budget, name = whole(params, "budget_msat", None), text(params, "reservation", None)
        if budget is None:
            if name is not None:
                raise UsageError("the reservation has no amount", hint="Add a budget_msat.")
            yield None
            return
        # Imported here, so that a node that only serves does not load the customer's modules.
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

    def rows(self, params: Params) -> dict[str, Any]:
        """The `reservations` call: what each of `names` has cost up to now, None if unknown. Raises `UsageError`."""
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
