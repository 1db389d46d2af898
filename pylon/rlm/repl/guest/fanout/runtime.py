"""Fan-out while the code runs: sends together the sub-calls that the code is certain to make.

`rewrite.py` inserts calls of `Fan` before loops and before statements that ask several times. At each of these the
following code is rehearsed (see `rehearsal.py`), and the sub-calls that it makes in any case are sent at once. With
their answers it is rehearsed again, which may find sub-calls that depend on them. Then the code itself runs as it was
written, and its calls find their answers waiting.
"""

import ast
import inspect
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ..calls import Ask, Calls, Query
from .budget import STEPS, Budget
from .machine import DEEPEST, Frame
from .natives import snapshot, unchanged
from .rehearsal import Rehearsal
from .rewrite import Anchor, rewritten
from .source import Sources
from .unknown import Ended, end

# If a wave of calls is less than this fraction of the calls in the code, the next is not looked for: it would cost
# more than it can save.
_FEW = 16


class Fan:
    """The object that rewritten code calls, by the name `NAME`.

    `output` is the cells' standard output, `pools` are the classes of thread pools, `now` is a clock in seconds.
    """

    NAME = "__pylon__"

    def __init__(
        self, calls: Calls, output: Any, pools: Sequence[type] = (), now: Callable[[], float] = time.monotonic
    ) -> None:
        self._calls = calls
        self._output = output
        self._pools = tuple(pools)
        self._sources = Sources()
        self._anchors: list[Anchor] = []
        self._thread = threading.get_ident()
        self._budget = Budget(now)
        self._python = snapshot()
        self._base = 0  # frames on the stack at the cell's own statements

    def start_cell(self) -> None:
        """Must be called right before a cell runs, from the function that runs it."""
        self._budget.start_cell()
        self._base = _depth(sys._getframe(1)) + 1

    def compiled_from(self, code: str, name: str) -> ast.Module:
        """The syntax tree of a cell, rewritten. Raises what `ast.parse` raises."""
        tree, original = ast.parse(code, name), ast.parse(code, name)
        self._sources.learn(original, name)
        try:
            return rewritten(tree, original, self.NAME, self._sources, self._anchors)
        except RecursionError:
            return original

    def loop(self, key: int, items: Any) -> Any:
        """Sends what a loop over these items is certain to ask, and returns the items unchanged."""
        self._ask_ahead(key, sys._getframe(1), items)
        return items

    def ahead(self, key: int) -> None:
        """Sends what the following statements are certain to ask."""
        self._ask_ahead(key, sys._getframe(1), None)

    def later(self, function: Any) -> Any:
        """Takes the place of the function in `await llm_query(…)`, so that coroutines ask together."""
        import asyncio

        from ..concurrency import GuestLoop

        loop = asyncio.get_running_loop()
        if isinstance(function, Query) and isinstance(loop, GuestLoop):
            return lambda *args, **kwargs: loop.later(function, *args, **kwargs)
        return function

    def _ask_ahead(self, key: int, frame: FrameType, items: Any) -> None:
        # Not in another thread, as the others may change what is rehearsed; not while answers are still waiting.
        if self._calls.waiting or threading.get_ident() != self._thread:
            return
        # Checked first: where the code is deep in calls, it needs what is left of the stack itself.
        if self._is_deep() or not self._budget.worthwhile(key) or not unchanged(self._python):
            return
        brought = False
        while self._budget.begin():
            found, asked = self._rehearsed(key, frame, items)
            if len(found) < 2:
                break
            brought = True
            self._budget.brought(key)
            self._calls.ask_ahead(found)
            if len(found) * _FEW < asked:
                break
        if not brought:
            self._budget.brought_nothing(key)

    def _is_deep(self) -> bool:
        """Whether the code is as deep in calls as a rehearsal may go."""
        try:
            # Three of these frames are the fan-out's.
            sys._getframe(self._base + DEEPEST + 2)
        except ValueError:
            return False
        return True

    def _rehearsed(self, key: int, frame: FrameType, items: Any) -> tuple[list[Ask], int]:
        """The calls that are certain to be made, and how many calls the rehearsal came to in all."""
        rehearsal = self._rehearsal(frame)
        if rehearsal is None:
            return [], 0
        steps = 0
        try:
            with suppress(Ended, Exception), _without_warnings():
                try:
                    self._anchors[key].rehearse(rehearsal, items)
                except RecursionError:
                    # A function that calls itself without end would be rehearsed in vain at each of its calls.
                    steps = STEPS // 4
        finally:
            rehearsal.clear()
            self._budget.end(steps + rehearsal.steps + rehearsal.shadows.objects)
        return rehearsal.found, rehearsal.asked

    def _rehearsal(self, frame: FrameType) -> Rehearsal | None:
        """A rehearsal that starts where this frame of the code stands, None in the body of a class."""
        code = frame.f_code
        rehearsal = Rehearsal(self._sources, frame.f_globals, self._calls.waiting, self._calls.room(), self._budget)
        rehearsal.pools, rehearsal.output = self._pools, self._output
        rehearsal.depth = _depth(frame) - self._base
        if code.co_flags & inspect.CO_OPTIMIZED:
            cells = (*code.co_cellvars, *code.co_freevars)
            root = Frame({*code.co_varnames, *cells}, rehearsal.module, dict(frame.f_locals), is_function=True)
            rehearsal.root, rehearsal.root_cells = root, frozenset(cells)
            rehearsal.frames.append(root)
        elif frame.f_locals is not frame.f_globals:
            return None
        return rehearsal


def _depth(frame: FrameType | None) -> int:
    """How many frames are on the stack up to this one."""
    depth = 0
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ends the rehearsal where `re` would warn, before `re` caches the expression: it warns only at the first time,
    and that has to be the code's own."""
    warn, warnings.warn = warnings.warn, end
    try:
        yield
    finally:
        warnings.warn = warn
