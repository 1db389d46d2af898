"""Makes too deep a recursion in WebAssembly a RecursionError, where it would end the whole sandbox.

An interpreter has two stacks there. CPython measures the one in its own memory, which is 1 MB long. Calls also use
the runtime's stack, which CPython cannot see and which cannot be enlarged. That one overflows first where a function
calls itself through C: in `sum(f(x) for x in …)`, a sort's key, a `__repr__`. So most of the first stack is used up
before the code runs, so that it is the first to end.
"""

import contextlib
from collections.abc import Callable
from select import select

# Each layer is a call of select, which takes 50 KB of the stack for its descriptors. With 18 layers the code is not
# stopped in time; 20 leave too little stack to compile a module of the standard library.
_LAYERS = 19


class _Ran(BaseException):
    """Raised to leave the layers before any select is made."""


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
    """Runs a function on what is left of the stack, and returns its result."""
    layers = _Layers(run)
    with contextlib.suppress(_Ran):
        layers.fileno()
    return layers.outcome
