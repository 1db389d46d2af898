"""The gateway's `Upstream`: the running core, over one connection, or a core in this process if none runs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pylon.errors import UnreachableError
from pylon.gateway.access import AccessRules
from pylon.gateway.app import Gateway, GatewaySettings
from pylon.gateway.keys import load_or_create
from pylon.gateway.upstream import Begun, Ended, Heard, Said, SilentCoreError
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.node.calls.channel import Channel
from pylon.node.calls.protocol import Answers, Event, Node, Result, result_of
from pylon.node.home import Home
from pylon.node.session import open_node
from pylon.relay_url import is_loopback
from pylon.sections import Config

# Seconds in which a working core answers, on top of the time that it waits for relays and providers.
ANSWERS_S = 30.0
# Seconds to wait for a core, which may have to be started in this process.
OPENS_S = 60.0
TOKEN_FILE = "gateway-token"  # noqa: S105 - a file's name


class GatewayCore:
    """An `Upstream`. The next call after a core has ended finds or starts another one. `close` disconnects from it.

    If the core was a serving node, no core is started in its place: that would keep the node from starting again.
    """

    def __init__(self, home: Home, config: Config) -> None:
        self._home = home
        self._config = config
        self._opening = asyncio.Lock()
        self._node: Node | None = None
        # Whether a core was once a serving node.
        self._beside = False
        self._stack = AsyncExitStack()

    async def open(self) -> Node:
        """The core, found or started if necessary. Raises `SetupError`, `UnreachableError`, `SilentCoreError`."""
        async with _in_time(OPENS_S), self._opening:
            if isinstance(self._node, Channel) and not self._node.connected:
                await self._disconnect()
            if self._node is None:
                try:
                    node = await self._find()
                    if isinstance(node, Channel):
                        status = await result_of(node, "status")
                        self._beside = self._beside or status["provider"] is not None
                except BaseException:
                    await self._disconnect()
                    raise
                self._node = node
            return self._node

    async def _find(self) -> Node:
        if not self._beside:
            return await self._stack.enter_async_context(open_node(self._home, self._config, stays=True))
        try:
            node = await self._stack.enter_async_context(Channel(self._home.socket))
            await result_of(node, "ping")
        except UnreachableError as error:
            raise UnreachableError(
                "the node of this home is not running", hint="Run `pylon start`, then ask again."
            ) from error
        return node

    async def close(self) -> None:
        async with self._opening:
            await self._disconnect()

    async def ask(
        self, job: dict[str, Any], *, reservation: str, budget_msat: int, stream: bool
    ) -> AsyncGenerator[Heard]:
        """See `Upstream`."""
        params = {"job": job, "reservation": reservation, "budget_msat": budget_msat, "stream": stream}
        node = await self.open()
        # There is no `await` between this and the sending of the call.
        yield Begun()
        section = self._config.customer
        # The core may wait `patience_s` each for its relays and for what they know of providers; as long as the job's
        # timeout for one that is loading its model; and, once that is asked, as long again for the answer.
        longest_s = 2 * float(job.get("timeout") or section.timeout_s) + 2 * section.patience_s + ANSWERS_S
        async with aclosing(node.call("ask", params)) as answers:
            while (answer := await _next(answers, longest_s)) is not None:
                match answer:
                    case Event({"text": str(text)}):
                        yield Said(text)
                    case Result(row):
                        yield Ended(row)

    async def result(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """See `Upstream`."""
        node = await self.open()
        async with _in_time(self._config.customer.patience_s + ANSWERS_S):
            return await result_of(node, method, params)

    async def _disconnect(self) -> None:
        self._node = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()


@asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise SilentCoreError(
            f"the node of this home has not answered for {seconds:g} seconds",
            hint="If `pylon status` gets no answer either, end the node's process and start it again.",
        ) from error


async def _next(answers: Answers, seconds: float) -> Event | Result | None:
    # A timeout for each item, not one for all: a client may read slowly, and items may be awaited in different tasks.
    async with _in_time(seconds):
        return await anext(answers, None)


def make_gateway(
    core: GatewayCore, home: Home, config: Config, *, host: str, sats: int | None, token: bool
) -> Gateway:
    """The gateway of a home, which is to listen at `host`. `sats` overrides the budget of the settings; without
    `token` anybody may ask. Raises `SetupError` if the token file cannot be used."""
    section = config.gateway
    settings = GatewaySettings(
        runs=home.runs,
        unit=Network(config.network).unit,
        most_msat=int(Msat.from_sats(section.max_sats if sats is None else sats)),
        max_requests=section.max_requests,
        max_body_bytes=section.max_body_mb * 1024 * 1024,
        plain=config.customer.plain,
        timeout_s=config.customer.timeout_s,
    )
    key = load_or_create(home.folder / TOKEN_FILE) if token else None
    rules = AccessRules(key, frozenset(name.lower() for name in section.names), is_loopback(host))
    if rules.loopback:
        # Only then: other machines must not learn the names of folders here.
        rules = replace(rules, token_file=_shown(home.folder / TOKEN_FILE))
    return Gateway(core, settings, rules)


def _shown(path: Path) -> str:
    mine = Path.home()
    return f"~/{path.relative_to(mine)}" if path.is_relative_to(mine) else str(path)
