"""The queue in front of a run's budgets: decides who may spend now, and who waits.

A request that the budget could allow after others have ended waits for them, first come first served; one that it can
never allow is refused at once. Waiting always ends, since it needs an open reservation, and everything that holds one
ends in time. Runs that share a budget share its queue too, since one may wait for what another settles.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pylon.clock import Clock
from pylon.rlm.budget import Budget, Cost, Refusal, Reservation

type Then = Callable[[Reservation | Refusal], None]


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A request in the queue. `then` is called once with the result, possibly before `enter` returns."""

    budget: Budget
    cost: Cost
    prompt_chars: int
    then: Then


class Gate:
    """The queue of one budget, and of the budgets below it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: deque[Ticket] = deque()

    def enter(self, budget: Budget, cost: Cost, then: Then, *, prompt_chars: int = 0) -> Ticket:
        """Asks for a reservation; `then` gets it, or the refusal."""
        ticket = Ticket(budget, cost, prompt_chars, then)
        self._queue.append(ticket)
        if len(self._queue) == 1:
            self._pump()
        return ticket

    async def wait(self, budget: Budget, cost: Cost) -> Reservation | Refusal:
        """Asks for a reservation and waits for the result. Cancelled, it leaves nothing reserved."""
        granted: asyncio.Future[Reservation | Refusal] = asyncio.get_running_loop().create_future()
        ticket = self.enter(budget, cost, granted.set_result)
        try:
            return await asyncio.shield(granted)
        except asyncio.CancelledError:
            self.leave({ticket})
            if granted.done() and isinstance(given := granted.result(), Reservation):
                self.settle(budget, given, Cost())
            raise

    def leave(self, tickets: set[Ticket]) -> None:
        """Takes requests out of the queue; those that were granted already are not in it any more."""
        self._queue = deque(ticket for ticket in self._queue if ticket not in tickets)
        self._pump()

    def settle(self, budget: Budget, reservation: Reservation, spent: Cost) -> None:
        """Books what something cost, and grants waiting requests what that leaves."""
        budget.settle(reservation, spent)
        self._pump()

    def _pump(self) -> None:
        while self._queue:
            ticket = self._queue[0]
            now = self._clock.monotonic()
            granted = ticket.budget.reserve(ticket.cost, now=now, prompt_chars=ticket.prompt_chars)
            if isinstance(granted, Refusal) and granted.waits:
                return
            self._queue.popleft()
            ticket.then(granted)
