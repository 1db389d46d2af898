"""Calls that failed by a fault of the node itself: what whoever called is told, and what is remembered of it."""

import os
import traceback

from pylon import log
from pylon.errors import PylonError
from pylon.text import clean_line

logger = log.get("node")

# Of an error's words there may be any number.
_MOST = 300


class NodeFaults:
    """How many calls failed so, and what the `last` of them was: its name, and the last line of the traceback.

    `more` is where whoever called hears more.
    """

    def __init__(self, more: str) -> None:
        self._more = more
        self.count = 0
        self.last = ""

    def met(self, call: str, error: Exception) -> PylonError:
        """Logs it, to be called where it is handled. What to tell is returned, without the error's own words: a
        gateway hands it on, and they may hold a prompt, or a path of this machine.
        """
        logger.exception("a control call failed", call=call)
        self.count += 1
        self.last = clean_line(f"{call[:_MOST]}: {_last_line(error)}")
        return PylonError(f"the node failed ({type(error).__name__})", hint=self._more)

    def status(self) -> dict[str, int | str]:
        """For its owner alone; `log` is a file, or what prints it."""
        return {"count": self.count, "last": self.last, "log": str(log.file() or f"process {os.getpid()}")}


def _last_line(error: Exception) -> str:
    # A message of many lines says first what it is.
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return clean_line(lines[0])[:_MOST]
