"""What stands behind the gateway: the core of a node, as values. `pylon.node.gateway` fills it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

from pylon.errors import UnreachableError


class SilentCoreError(UnreachableError):
    """A core that is there says nothing: it hangs, was halted, or has far too much to do."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The core hears of it: from here on it may cost something, and its reservation is known there."""


@dataclass(frozen=True, slots=True)
class Said:
    """The whole text of an answer so far."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a question ended: the row of the `ask` call of the control socket."""

    row: dict[str, Any]


type Heard = Begun | Said | Ended


class Upstream(Protocol):
    """Calls raise `UnreachableError` when no core or nobody answers, `SilentCoreError` when it does not in time, and
    any other `PylonError` of the core."""

    def ask(self, job: dict[str, Any], *, reservation: str, budget_msat: int, stream: bool) -> AsyncGenerator[Heard]:
        """One question, which never costs more than `budget_msat`. Closing the iterator cancels it; what it came to,
        the call `reservations` says by the name of its reservation, which is used once."""

    async def result(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of a call that `docs/control.md` lists."""
