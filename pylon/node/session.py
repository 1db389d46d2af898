"""The node of a home for a command: the running one, or else a core in this process while the command lasts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from pylon.errors import HomeBusyError, UnreachableError
from pylon.node.calls.channel import Channel
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import Answers, Node, result_of
from pylon.node.home import Home
from pylon.sections import Config

if TYPE_CHECKING:
    from pylon.node.core import Core

# Seconds to look for a core that holds the lock: one that has just taken it does not listen yet.
FIND_S = 20.0
RETRY_S = 0.1


class LocalNode:
    """The core of this process as a `Node`."""

    def __init__(self, core: "Core") -> None:
        self._table = core.methods

    def call(self, method: str, params: dict[str, object] | None = None) -> Answers:
        """See `Node`."""
        return self._table[method](dict(params or {}))


@asynccontextmanager
async def open_node(home: Home, config: Config, *, stays: bool = False) -> AsyncIterator[Node]:
    """The running node of this home, over one connection for all calls, or a core that is started here and does not
    serve. For `stays` see `Core`.

    If several commands start at once, one of them gets the lock and the others find its socket. Its core stays open
    until their calls have ended. Raises `HomeBusyError`, `SetupError`, `NodeSilentError`, and what else entering a
    `Core` raises.
    """
    deadline = time.monotonic() + FIND_S
    while True:
        async with AsyncExitStack() as stack:
            try:
                remote = await stack.enter_async_context(Channel(home.socket))
                await result_of(remote, "ping")
            except UnreachableError:
                pass
            else:
                yield remote
                return
        # Imported here, since a command that a running node answers does not need it.
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
    """The node that runs in another process, for a single call. It raises `UnreachableError` if none runs."""
    return RemoteNode(home.socket)
