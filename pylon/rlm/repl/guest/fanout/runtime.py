"""Fan-out while the code runs: asks together what the code is sure to ask, then lets it run as it was written.

`rewrite.py` has the code say where it is, before loops and before statements that ask several times. There what
follows is rehearsed (see `rehearsal.py`), and what it will ask in any case is sent at once; with those answers it is
rehearsed again, which may bring what hangs on them. Then the code itself runs, and its calls find their answers.
"""

import ast
import builtins
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
from .rehearsal import Rehearsal
from .rewrite import Anchor, rewritten
from .source import Sources
from .unknown import Ended, end

# After a wave of calls that is fewer than one in so many of what the code asks, the next is not looked for: it would
# cost more than it can bring.
_FEW = 16


class Fan:
    """What rewritten code calls, under a name that is not the code's.

    `output` is what code prints to, `pools` are the classes of thread pools, `now` is a clock in seconds.
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
        self._builtins = dict(vars(builtins))
        self._base = 0  # frames below the cell's own statements

    def start_cell(self) -> None:
        """To be called by whatever runs a cell, right before it does."""
        self._budget.start_cell()
        self._base = _depth()

    def compiled_from(self, code: str, name: str) -> ast.Module:
        """A cell's syntax, to be compiled. Raises what `ast.parse` does."""
        tree, original = ast.parse(code, name), ast.parse(code, name)
        self._sources.learn(original, name)
        try:
            return rewritten(tree, original, self.NAME, self._sources, self._anchors)
        except RecursionError:
            return original

    def loop(self, key: int, items: Any) -> Any:
        """The items, unchanged: what is asked for them in any case has been asked."""
        self._ask_ahead(key, sys._getframe(1), items)
        return items

    def ahead(self, key: int) -> None:
        """Asks what the next statements ask in any case."""
        self._ask_ahead(key, sys._getframe(1), None)

    def later(self, function: Any) -> Any:
        """Instead of the function in `await llm_query(…)`: the coroutine's way to ask together with others."""
        import asyncio

        from ..concurrency import GuestLoop

        loop = asyncio.get_running_loop()
        if isinstance(function, Query) and isinstance(loop, GuestLoop):
            return lambda *args, **kwargs: loop.later(function, *args, **kwargs)
        return function

    def _ask_ahead(self, key: int, frame: FrameType, items: Any) -> None:
        # Other threads may change what is rehearsed; and what is asked ahead already is asked.
        if self._calls.waiting or threading.get_ident() != self._thread:
            return
        # Where the code is deep in calls, no more of the stack is used than has to be: it is the code's.
        if self._is_deep() or not self._has_pythons_builtins() or not self._budget.worthwhile(key):
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
        """Whether the code stands as deep in calls as a rehearsal may go."""
        try:
            sys._getframe(self._base + DEEPEST)
        except ValueError:
            return False
        return True

    def _has_pythons_builtins(self) -> bool:
        """Whether the code has left Python's built-in functions as they are: a rehearsal takes them for those."""
        now, changed = vars(builtins), False
        # By none of them.
        for name, value in self._builtins.items():
            changed = changed or now.get(name) is not value
        return not changed

    def _rehearsed(self, key: int, frame: FrameType, items: Any) -> tuple[list[Ask], int]:
        """What is sure to be asked, and how many calls there were in all."""
        rehearsal = self._rehearsal(frame)
        if rehearsal is None:
            return [], 0
        steps = 0
        try:
            with suppress(Ended, Exception), _without_warnings():
                try:
                    self._anchors[key].rehearse(rehearsal, items)
                except RecursionError:
                    # So it would in each of its many calls of itself.
                    steps = STEPS // 4
        finally:
            rehearsal.clear()
            self._budget.end(steps + rehearsal.steps + rehearsal.shadows.objects)
        return rehearsal.found, rehearsal.asked

    def _rehearsal(self, frame: FrameType) -> Rehearsal | None:
        code = frame.f_code
        rehearsal = Rehearsal(self._sources, frame.f_globals, self._calls.waiting, self._calls.room(), self._budget)
        rehearsal.pools, rehearsal.output = self._pools, self._output
        rehearsal.depth = _depth() - self._base
        if code.co_flags & inspect.CO_OPTIMIZED:
            cells = (*code.co_cellvars, *code.co_freevars)
            root = Frame({*code.co_varnames, *cells}, rehearsal.module, dict(frame.f_locals), is_function=True)
            rehearsal.root, rehearsal.root_cells = root, frozenset(cells)
            rehearsal.frames.append(root)
        elif frame.f_locals is not frame.f_globals:
            return None
        return rehearsal


def _depth() -> int:
    """How many frames there are, this one among them."""
    depth = 0
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


@contextmanager
def _without_warnings() -> Iterator[None]:
    """A rehearsal ends where `re` warns of an expression, before that is kept: the code is to be warned itself."""
    warn, warnings.warn = warnings.warn, end
    try:
        yield
    finally:
        warnings.warn = warn
