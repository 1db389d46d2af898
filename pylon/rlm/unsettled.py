"""Asks that are over and of which nobody knows yet what they cost: whoever was asked is asked again, until it knows.

What is set aside for one stays so in its budget, which others may spend from too. All that share a queue share this.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass

from pylon import log
from pylon.errors import PylonError
from pylon.rlm.budget import NOTHING, Budget, Cost, Reservation
from pylon.rlm.charges import CameTo, Reserved, Teller
from pylon.rlm.gate import Gate
from pylon.rounds import Rounds

logger = log.get("rlm")

# Others wait for what an ask that was cancelled left, until somebody has a word on it: no longer than that.
WORD_S = 5.0


@dataclass(slots=True)
class _Ask:
    """`reservation` is what is set aside for what it may still cost, `charged` what is booked of it already. `known`:
    that it is over was said."""

    by: Teller
    budget: Budget
    reservation: Reservation
    charged: int
    known: bool
    note: Callable[[int], None]


class Unsettled:
    """See the module."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._asks: dict[str, _Ask] = {}
        self._rounds = Rounds(self._round, "unsettled")

    def __len__(self) -> int:
        return len(self._asks)

    def add(
        self, ask: Reserved, budget: Budget, *, charged: int, most: int, known: bool, note: Callable[[int], None]
    ) -> None:
        """An ask is over: `charged` msat of it are booked, and it can come to `most`. With `known` that was said;
        otherwise others wait until something is. `note` hears what is booked later.

        To be called before what was reserved for it is settled: so nothing of it is anybody else's in between.
        """
        reservation = budget.set_aside(Cost(most - charged), keep=known)
        self._asks[ask.name] = _Ask(ask.by, budget, reservation, charged, known, note)
        self._rounds.add(ask.name)

    async def close(self) -> None:
        """Asks no more."""
        await self._rounds.close()

    async def _round(self, names: list[str]) -> Container[str]:
        names_by: defaultdict[Teller, list[str]] = defaultdict(list)
        for name in names:
            names_by[self._asks[name].by].append(name)
        for by, its in names_by.items():
            try:
                async with asyncio.timeout(WORD_S):
                    found = await by.came_to(its)
                for name in its:
                    self._hear(name, found.get(name))
            except (PylonError, TimeoutError) as error:
                logger.info("nobody says what asks came to", reason=str(error))
                self._let_go(by)
            except Exception as error:
                logger.error("what asks came to is not understood", exc_info=error)
                self._let_go(by)
        return self._asks

    def _hear(self, name: str, now: CameTo | None) -> None:
        ask = self._asks[name]
        if now is None:
            # Nobody knows it any more, and whoever was asked may charge all the same: it stays set aside for good.
            self._wait_no_more(ask)
            del self._asks[name]
        elif now.over or ask.known:
            ask.known = True
            charged = max(ask.charged, now.charged)
            booked, ask.charged = charged - ask.charged, charged
            self._hold(ask, max(0, now.most - charged), booked)
            if booked:
                ask.note(booked)
            if now.decided:
                self._gate.settle(ask.budget, ask.reservation, NOTHING)
                del self._asks[name]

    def _let_go(self, by: Teller) -> None:
        """Nobody shall wait for what is not said. It stays set aside."""
        for ask in [ask for ask in self._asks.values() if ask.by is by]:
            self._wait_no_more(ask)

    def _wait_no_more(self, ask: _Ask) -> None:
        if not ask.known:
            ask.known = True
            self._hold(ask, ask.reservation.cost.msat, 0)

    def _hold(self, ask: _Ask, still: int, booked: int) -> None:
        before, ask.reservation = ask.reservation, ask.budget.set_aside(Cost(still), keep=True)
        self._gate.settle(ask.budget, before, Cost(booked))
