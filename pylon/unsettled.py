"""Calls that are over and of which nobody knows yet what they cost: whoever was asked is asked again, until it knows.

What they may cost stays set aside meanwhile, in whatever budget that was. Amounts are msat.
"""

import asyncio
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pylon import log
from pylon.errors import PylonError
from pylon.rounds import Rounds

# Others wait for what a call that was cancelled left, until somebody has a word on it: no longer than that.
WORD_S = 5.0


@dataclass(frozen=True, slots=True)
class CameTo:
    """What a call was `charged` up to now, all of it, and the `most` that it can come to. `over`: nobody is asked for
    it any more. `decided`: that is what it cost."""

    charged: int
    most: int
    over: bool
    decided: bool


class Teller(Protocol):
    """Whoever can say what became of calls."""

    async def came_to(self, names: Sequence[str]) -> Mapping[str, CameTo | None]:
        """What calls came to, by the names that they told; None for one that nobody knows any more. Raises
        `UnreachableError`."""


class Share(Protocol):
    """What a budget has set aside for one call: `hold` may come again and again, then at most one of the others."""

    def hold(self, charged: int, most: int) -> None:
        """So much was charged up to now, and it can come to `most`. The rest stays set aside; nobody waits for it."""

    def end(self, charged: int) -> None:
        """That is what it cost."""

    def lose(self, charged: int, most: int) -> None:
        """As `hold`, and nobody will ever say more of it. Whoever was asked may charge all the same."""


def told(reservations: Mapping[str, Any], names: Sequence[str]) -> dict[str, CameTo | None]:
    """What the call `reservations` of the control socket says of these names. Raises `LookupError` where it does
    not."""
    rows = {name: reservations["reservations"][name] for name in names}
    return {name: None if row is None else _came_to(row) for name, row in rows.items()}


def _came_to(row: Mapping[str, Any]) -> CameTo:
    return CameTo(row["charged_msat"], row["most_msat"], row["over"], row["decided"])


@dataclass(slots=True)
class _Call:
    """`known`: that it is over was said. Until then others wait for what it leaves."""

    by: Teller
    share: Share
    charged: int
    most: int
    known: bool


class Unsettled:
    """`room` is whose log hears of it."""

    def __init__(self, room: str) -> None:
        self._logger = log.get(room)
        self._calls: dict[str, _Call] = {}
        self._rounds = Rounds(self._round, "unsettled")

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, name: str, by: Teller, share: Share, *, charged: int, most: int, known: bool) -> None:
        """A call is over: so much was charged of it, and it can come to `most`. With `known` that was said."""
        self._calls[name] = _Call(by, share, charged, most, known)
        self._rounds.add(name)

    async def close(self) -> None:
        """Asks no more."""
        await self._rounds.close()

    async def _round(self, names: list[str]) -> Container[str]:
        names_by: defaultdict[Teller, list[str]] = defaultdict(list)
        for name in names:
            names_by[self._calls[name].by].append(name)
        for by, its in names_by.items():
            try:
                async with asyncio.timeout(WORD_S):
                    found = await by.came_to(its)
                for name in its:
                    self._hear(name, found.get(name))
            except (PylonError, TimeoutError) as error:
                self._logger.info("what calls cost is not known", reason=str(error))
                self._let_go(by)
            except Exception as error:
                self._logger.error("what calls cost could not be read", exc_info=error)
                self._let_go(by)
        return self._calls

    def _hear(self, name: str, now: CameTo | None) -> None:
        call = self._calls[name]
        if now is None:
            # A core that was started since knows nothing of it.
            del self._calls[name]
            call.share.lose(call.charged, call.most)
        elif now.over or call.known:
            call.known = True
            call.charged = max(call.charged, now.charged)
            call.most = max(call.charged, now.most)
            if now.decided:
                del self._calls[name]
                call.share.end(call.charged)
            else:
                call.share.hold(call.charged, call.most)

    def _let_go(self, by: Teller) -> None:
        """Nobody shall wait for what is not said. It stays set aside."""
        for call in self._calls.values():
            if call.by is by and not call.known:
                call.known = True
                call.share.hold(call.charged, call.most)
