"""Fan-out while the code runs: asks together what the code is sure to ask, then lets it run as it was written.

`rewrite.py` has the code say where it is, before loops and before statements that ask several times. There what
follows is rehearsed (see `rehearsal.py`), and what it will ask in any case is sent at once; with those answers it is
rehearsed again, which may bring what hangs on them. Then the code itself runs, and its calls find their answers.
"""

import ast
import inspect
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from ..calls import Calls, Query
from .machine import Frame
from .rehearsal import Rehearsal
from .rewrite import Anchor, rewritten
from .source import Sources
from .unknown import Ended

# Steps of all rehearsals of a cell since one has brought something.
_STEPS = 1_000_000
# What beginning one costs, in such steps.
_BEGINNING = 1000
# After a wave of calls that is fewer than one in so many of what the code asks, the next is not looked for: it would
# cost more than it can bring.
_FEW = 16


class Fan:
    """What rewritten code calls, under a name that is not the code's. `pools` are the classes of thread pools."""

    NAME = "__pylon__"

    def __init__(self, calls: Calls, pools: Sequence[type] = ()) -> None:
        self._calls = calls
        self._pools = tuple(pools)
        self._sources = Sources()
        self._anchors: list[Anchor] = []
        self._thread = threading.get_ident()
        self._steps = 0

    def compiled_from(self, code: str, name: str) -> ast.Module:
        """A cell's syntax, to be compiled. Raises what `ast.parse` does."""
        self._steps = 0
        tree, original = ast.parse(code, name), ast.parse(code, name)
        self._sources.learn(original, name)
        try:
            return rewritten(tree, original, self.NAME, self._sources, self._anchors)
        except RecursionError:
            return original

    def loop(self, key: int, items: Any) -> Any:
        """The items, unchanged: what is asked for them in any case has been asked."""
        self._ask_ahead(self._anchors[key], sys._getframe(1), items)
        return items

    def ahead(self, key: int) -> None:
        """Asks what the next statements ask in any case."""
        self._ask_ahead(self._anchors[key], sys._getframe(1), None)

    def later(self, function: Any) -> Any:
        """Instead of the function in `await llm_query(…)`: the coroutine's way to ask together with others."""
        import asyncio

        from ..concurrency import GuestLoop

        loop = asyncio.get_running_loop()
        if isinstance(function, Query) and isinstance(loop, GuestLoop):
            return lambda *args, **kwargs: loop.later(function, *args, **kwargs)
        return function

    def _ask_ahead(self, anchor: Anchor, frame: FrameType, items: Any) -> None:
        # Other threads may change what is rehearsed; and what is asked ahead already is asked.
        if self._calls.waiting or threading.get_ident() != self._thread:
            return
        while self._steps < _STEPS:
            rehearsal = self._rehearsal(frame)
            if rehearsal is None:
                return
            with suppress(Ended, Exception), warnings.catch_warnings(action="ignore"):
                try:
                    anchor.rehearse(rehearsal, items)
                except RecursionError:
                    # So it would in each of its many calls of itself.
                    self._steps += _STEPS // 4
            self._steps += rehearsal.steps + _BEGINNING
            if len(rehearsal.found) < 2:
                return
            self._steps = 0
            self._calls.ask_ahead(rehearsal.found)
            if len(rehearsal.found) * _FEW < rehearsal.asked:
                return

    def _rehearsal(self, frame: FrameType) -> Rehearsal | None:
        code = frame.f_code
        rehearsal = Rehearsal(self._sources, frame.f_globals, self._calls.waiting, self._calls.room())
        rehearsal.pools = self._pools
        if code.co_flags & inspect.CO_OPTIMIZED:
            cells = (*code.co_cellvars, *code.co_freevars)
            root = Frame({*code.co_varnames, *cells}, rehearsal.module, dict(frame.f_locals), is_function=True)
            rehearsal.root, rehearsal.root_cells = root, frozenset(cells)
            rehearsal.frames.append(root)
        elif frame.f_locals is not frame.f_globals:
            return None
        return rehearsal
