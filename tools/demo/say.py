"""Progress messages of the demo, on standard error."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console

err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints a line of progress."""
    err.print(f"demo: {text}", style="dim", markup=False)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Prints what is being done, and how long it took."""
    started = time.monotonic()
    say(f"{what} …")
    yield
    say(f"{what}: {time.monotonic() - started:.1f} s")
