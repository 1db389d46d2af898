"""Questions that are over and of which nobody knows yet what they cost: the core is asked, until it knows."""

from collections.abc import Callable, Container
from typing import Any

from pylon import log
from pylon.errors import PylonError
from pylon.gateway.budget import Budget, Cost
from pylon.gateway.upstream import Upstream
from pylon.rounds import Rounds

logger = log.get("gateway")


class Unsettled:
    """`changed` is called when something may have come back to the budget."""

    def __init__(self, upstream: Upstream, budget: Budget, changed: Callable[[], None]) -> None:
        self._upstream = upstream
        self._budget = budget
        self._changed = changed
        # What is held for those of which the core has not said that they are over; what the others have come to.
        self._held: dict[str, int] = {}
        self._costs: dict[str, Cost] = {}
        self._rounds = Rounds(self._round, "unsettled")

    def __len__(self) -> int:
        return len(self._held) + len(self._costs)

    def left(self, reservation: str, held: int) -> None:
        """Whoever asked this went away before its answer. What is held for it stays so until the core has a word."""
        self._held[reservation] = held
        self._rounds.add(reservation)

    def ended(self, reservation: str, cost: Cost) -> None:
        """This has ended, and may be charged yet."""
        self._costs[reservation] = cost
        self._rounds.add(reservation)

    async def close(self) -> None:
        """Asks no more."""
        await self._rounds.close()

    async def _round(self, names: list[str]) -> Container[str]:
        try:
            rows = (await self._upstream.result("reservations", {"names": names}))["reservations"]
            for name in names:
                self._hear(name, rows[name])
        except PylonError as error:
            logger.info("nobody says what questions came to", reason=str(error))
            self._let_go()
        except Exception as error:
            logger.error("what questions came to is not understood", exc_info=error)
            self._let_go()
        self._changed()
        return {name for name in names if name in self._held or name in self._costs}

    def _hear(self, name: str, row: dict[str, Any] | None) -> None:
        if row is not None and name in self._held and not row["over"]:
            # The core is about to hear that nobody waits for it.
            return
        before = self._let_go_of(name) if name in self._held else self._costs.pop(name)
        if row is None:
            # A core that was started since knows nothing of it, and whoever was asked may charge all the same.
            now = Cost(before.most, before.most)
        else:
            charged = max(before.charged, row["charged_msat"])
            now = Cost(charged, max(charged, row["most_msat"]))
        self._budget.settle_open(before, now)
        if row is not None and not row["decided"]:
            self._costs[name] = now

    def _let_go(self) -> None:
        """Nobody shall wait for what a core that is not reached has to say. It stays set aside."""
        for name in list(self._held):
            self._costs[name] = self._let_go_of(name)

    def _let_go_of(self, name: str) -> Cost:
        """What is held can come to all of it."""
        cost = Cost(0, self._held.pop(name))
        self._budget.settle(cost.most, cost)
        return cost
