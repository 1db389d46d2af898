"""The base of the Python clients that ask through a home."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from pylon.errors import UnreachableError, UsageError
from pylon.loop_thread import in_another_loop
from pylon.node.calls.protocol import Node
from pylon.node.home import home_at, open_home
from pylon.node.session import open_node


class HomeClient:
    """An async context manager that connects to the running node of a home, or else runs a core of its own until it
    is closed. `home` is a folder, by default the one that PYLON_HOME names. `name` names this client in errors.

    It works only in the event loop in which it was opened: in another it would wait for ever, so it raises
    `UsageError` there. Entering raises `SetupError` if there is no home, and `UnreachableError`.
    """

    def __init__(self, home: Path | str | None, name: str) -> None:
        self._root = None if home is None else Path(home)
        self._name = name
        self._exit = AsyncExitStack()
        self._opened: Node | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise UsageError(f"this {self._name} is already open", hint="Create another one.")
        self._loop = asyncio.get_running_loop()
        self._home, self._config = open_home() if self._root is None else home_at(self._root)
        self._opened = await self._exit.enter_async_context(open_node(self._home, self._config, stays=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnects from the node, or ends a core of its own. May be called twice."""
        self._check_loop()
        self._opened = None
        await self._exit.aclose()

    @property
    def _node(self) -> Node:
        if self._opened is None:
            raise UnreachableError(f"this {self._name} is closed, or was never opened", hint="Use it inside `with`.")
        self._check_loop()
        return self._opened

    def _check_loop(self) -> None:
        if self._loop not in (None, asyncio.get_running_loop()):
            raise in_another_loop(self._name)
