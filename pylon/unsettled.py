"""Calls that have ended and whose cost is not known yet: who ran them is asked again until the cost is decided.

What a call may cost stays reserved meanwhile in the budget it was made from. Amounts are msat.
"""

import asyncio
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pylon import log
from pylon.errors import PylonError
from pylon.rounds import Rounds

# How long, in seconds, an answer may take. Other calls wait meanwhile for the budget that a cancelled call may free.
WORD_S = 5.0


@dataclass(frozen=True, slots=True)
class CameTo:
    """What a call has cost so far.

    `charged` is all that it was charged up to now, and `most` what it can still come to. `over` says that no provider
    is asked for it any more, `decided` that `charged` is final.
    """

    charged: int
    most: int
    over: bool
    decided: bool


class Teller(Protocol):
    """Something that ran calls and knows what they cost."""

    async def came_to(self, names: Sequence[str]) -> Mapping[str, CameTo | None]:
        """What calls cost, by their names; None for a call that is not known any more. Raises `UnreachableError`."""


class Share(Protocol):
    """What a budget reserved for one call. `hold` may be called repeatedly, then one of the others at most once."""

    def hold(self, charged: int, most: int) -> None:
        """`charged` is spent and the rest up to `most` stays reserved; other calls need not wait for it any more."""

    def end(self, charged: int) -> None:
        """The call cost `charged`; the rest of the reservation is free."""

    def lose(self, charged: int, most: int) -> None:
        """The final cost will never be known, and may be anything up to `most`."""


def told(reservations: Mapping[str, Any], names: Sequence[str]) -> dict[str, CameTo | None]:
    """Reads the answer of the control socket's call `reservations` about these names. Raises `LookupError` where one
    is missing."""
    rows = {name: reservations["reservations"][name] for name in names}
    return {name: None if row is None else _came_to(row) for name, row in rows.items()}


def _came_to(row: Mapping[str, Any]) -> CameTo:
    return CameTo(row["charged_msat"], row["most_msat"], row["over"], row["decided"])


@dataclass(slots=True)
class _Call:
    """A call whose cost is open. `known`: its end was confirmed. Until then other calls wait for its budget."""

    by: Teller
    share: Share
    charged: int
    most: int
    known: bool


class Unsettled:
    """The calls of one part of the program, `room`, under whose name it logs."""

    def __init__(self, room: str) -> None:
        self._logger = log.get(room)
        self._calls: dict[str, _Call] = {}
        self._rounds = Rounds(self._round, "unsettled")

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, name: str, by: Teller, share: Share, *, charged: int, most: int, known: bool) -> None:
        """Adds a call that has ended: what it was `charged` so far, and the `most` that it can come to.

        `known` says that its end was confirmed.
        """
        self._calls[name] = _Call(by, share, charged, most, known)
        self._rounds.add(name)

    async def close(self) -> None:
        """Stops asking."""
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
            # A node that was restarted since knows nothing of the call.
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
        """Ends the waiting for the calls of a teller that does not answer. Their cost stays reserved."""
        for call in self._calls.values():
            if call.by is by and not call.known:
                call.known = True
                call.share.hold(call.charged, call.most)
