"""Questions that have ended and whose cost is not final yet: the core is asked for it, and the budget corrected."""

from collections.abc import Callable, Mapping, Sequence

from pylon import unsettled
from pylon.gateway.budget import Budget, Cost
from pylon.gateway.upstream import Upstream
from pylon.unsettled import CameTo


class Unsettled(unsettled.Unsettled):
    """See the module. `changed` is called when money may have come back to the budget."""

    def __init__(self, upstream: Upstream, budget: Budget, changed: Callable[[], None]) -> None:
        super().__init__("gateway")
        self._upstream = upstream
        self._budget = budget
        self._changed = changed

    def left(self, reservation: str, held: int) -> None:
        """A question whose client left before the answer. `held` stays reserved until the core tells its cost."""
        share = _Share(self._budget, self._changed, held=held)
        self.add(reservation, self, share, charged=0, most=held, known=False)

    def ended(self, reservation: str, cost: Cost) -> None:
        """A question that has ended with this cost, and for which more may still be charged."""
        share = _Share(self._budget, self._changed, cost=cost)
        self.add(reservation, self, share, charged=cost.charged, most=cost.most, known=True)

    async def came_to(self, names: Sequence[str]) -> Mapping[str, CameTo | None]:
        """See `Teller`."""
        return unsettled.told(await self._upstream.result("reservations", {"names": list(names)}), names)


class _Share:
    """One question's part of the budget: `held` msat while its cost is unknown, then `cost`."""

    def __init__(
        self, budget: Budget, changed: Callable[[], None], *, held: int = 0, cost: Cost | None = None
    ) -> None:
        self._budget = budget
        self._changed = changed
        self._held = held
        self._cost = cost

    def hold(self, charged: int, most: int) -> None:
        now = Cost(charged, most)
        if self._cost is None:
            self._budget.settle(self._held, now)
        else:
            self._budget.settle_open(self._cost, now)
        self._cost = now
        self._changed()

    def end(self, charged: int) -> None:
        self.hold(charged, charged)

    def lose(self, charged: int, most: int) -> None:  # noqa: ARG002 - the seam's
        # Counts as charged, not as open: a refusal names `open` as money that may come back, and this does not.
        self.hold(most, most)
