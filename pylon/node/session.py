"""Getting hold of a node: the one that runs here, or else a core of our own for as long as a command lasts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pylon.errors import HomeBusyError, UnreachableError
from pylon.node.calls.control import Answers, Node, RemoteNode, result_of
from pylon.node.home import Home
from pylon.sections import Config

if TYPE_CHECKING:
    from pylon.node.core import Core

# A core that has just taken the lock needs a moment until its socket listens.
FIND_S = 20.0
RETRY_S = 0.1


class LocalNode:
    """The core of this process, called as if it were another's."""

    def __init__(self, core: "Core") -> None:
        self._table = core.methods

    def call(self, method: str, params: dict[str, object] | None = None) -> Answers:
        """See `Node`."""
        return self._table[method](dict(params or {}))


@asynccontextmanager
async def open_node(home: Home, config: Config, *, stays: bool = False) -> AsyncIterator[Node]:
    """The node of this home: the running one, or one started here that does not serve. `stays`: see `Core`.

    Several commands may come at once: one of them gets the lock and the others find its socket. The one with
    the core stays until the calls of the others have ended. Raises `SetupError`, `UnreachableError`,
    `NodeSilentError`.
    """
    deadline = time.monotonic() + FIND_S
    while True:
        remote = RemoteNode(home.socket)
        try:
            await result_of(remote, "ping")
        except UnreachableError:
            pass
        else:
            yield remote
            return
        # A command that a running node answers needs nothing of what makes one.
        from pylon.node.core import Core

        core = Core(home, config, serve=False, stays=stays)
        try:
            await core.__aenter__()
        except HomeBusyError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RETRY_S)
            continue
        try:
            yield LocalNode(core)
            await core.control.idle.wait()
        finally:
            await core.__aexit__(None, None, None)
        return


def running_node(home: Home) -> Node:
    """The node that runs in another process. Its calls raise `UnreachableError` when there is none."""
    return RemoteNode(home.socket)
