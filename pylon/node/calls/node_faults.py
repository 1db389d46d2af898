"""Calls that failed by a fault of the node itself: what the caller is told, and what `status` tells the owner."""

import os
import traceback

from pylon import log
from pylon.errors import PylonError
from pylon.text import clean_line

logger = log.get("node")

# Characters of a call's name, and of an error's words, which may be of any length.
_MOST = 300


class NodeFaults:
    """Counts such calls. `last` is the name of the last one, with the error. `more` is the hint that callers get."""

    def __init__(self, more: str) -> None:
        self._more = more
        self.count = 0
        self.last = ""

    def record(self, call: str, error: Exception) -> PylonError:
        """Counts and logs an error; must be called in its `except` block. Returns the error for the caller.

        That one leaves out the words of `error`: they may hold a prompt or a path of this machine, and a gateway
        would pass them on.
        """
        logger.exception("a control call failed", call=call)
        self.count += 1
        self.last = clean_line(f"{call[:_MOST]}: {_last_line(error)}")
        return PylonError(f"the node failed ({type(error).__name__})", hint=self._more)

    def status(self) -> dict[str, int | str]:
        """The faults, for the owner alone. `log` is the log file, or the process that prints the log."""
        return {"count": self.count, "last": self.last, "log": str(log.file() or f"process {os.getpid()}")}


def _last_line(error: Exception) -> str:
    # The first line of a long message says what it is.
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return clean_line(lines[0])[:_MOST]
