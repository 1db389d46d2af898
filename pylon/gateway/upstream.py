"""The gateway's interface to the core of a node, which `pylon.node.gateway` implements."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

from pylon.errors import UnreachableError


class SilentCoreError(UnreachableError):
    """The core runs and does not answer in time: it hangs, was suspended, or is overloaded."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The question was sent to the core: from here on it may cost something, and the core knows its reservation."""


@dataclass(frozen=True, slots=True)
class Said:
    """The whole text of the answer so far."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a question ended: the row of the `ask` call of the control socket."""

    row: dict[str, Any]


type Heard = Begun | Said | Ended


class Upstream(Protocol):
    """Calls raise `UnreachableError` if there is no core or no provider, `SilentCoreError` if the core does not
    answer in time, and any other `PylonError` that the core reports.
    """

    def ask(self, job: dict[str, Any], *, reservation: str, budget_msat: int, stream: bool) -> AsyncGenerator[Heard]:
        """Asks one question, which never costs more than `budget_msat`. Closing the iterator cancels it.

        `reservation` is a new name for each question, by which the call `reservations` tells its cost later.
        """

    async def result(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of a call that `docs/control.md` lists."""
