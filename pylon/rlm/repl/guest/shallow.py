"""Code that goes too deep in WebAssembly, ended by a RecursionError and not with the whole sandbox.

An interpreter there has two stacks. CPython measures the one that it keeps in its memory, 1 MB long; the calls
themselves stand on the runtime's own, which it cannot see, which nobody can make longer, and which ends first where a
function calls itself by way of C: `sum(f(x) for x in …)`, a sort's key, a `__repr__`. So most of the first is used up
before the code runs: as much as leaves the second the longer one.
"""

import contextlib
from collections.abc import Callable
from select import select

# A select has room for three times 1,024 descriptors on the stack, 50 KB. Of such layers 18 are too few for the code
# to be stopped in time, and 20 leave too little to compile a module of the standard library.
_LAYERS = 19


class _Ran(BaseException):
    """The way back through the layers: no select is made."""


class _Layers[T]:
    outcome: T

    def __init__(self, run: Callable[[], T]) -> None:
        self._run = run
        self._left = _LAYERS

    def fileno(self) -> int:
        if self._left:
            self._left -= 1
            select([self], [], [])
        self.outcome = self._run()
        raise _Ran


def within[T](run: Callable[[], T]) -> T:
    """What it gives, or raises, run on what is left of the stack."""
    layers = _Layers(run)
    with contextlib.suppress(_Ran):
        layers.fileno()
    return layers.outcome
