"""Real Lightning for the tests: the stack of `scripts/regtest`, and homes whose wallets are on it."""

import asyncio
import fcntl
import sqlite3
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pylon.clock import SystemClock
from pylon.errors import SetupError
from pylon.money.network import Network
from pylon.money.nwc.uri import parse_uri
from pylon.money.payments.guard import GuardedWallet
from pylon.node.calls.protocol import Node, result_of
from pylon.node.home import Home
from pylon.node.wallet.connection import open_wallet
from tests.node import programs
from tests.node.homes import agreed, customer_of, move_in
from tools.regtest.stack import Regtest, default_folder


@pytest.fixture(scope="module")
def regtest():
    """The stack, running, and ours alone until this module is done: all workers of a run share one chain."""
    folder = default_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stack = Regtest(folder, lambda text: None)
        was_up = stack.status()["up"]
        try:
            stack.up()
        except SetupError as error:
            pytest.skip(f"{error} ({error.hint})")
        yield stack
        if not was_up:
            stack.down()


@dataclass
class House:
    """Homes on regtest: providers run as processes, customers in the test's own unless they are to be killed."""

    regtest: Regtest
    folder: Path
    stack: AsyncExitStack

    def home(self, name: str, side: str) -> Home:
        return move_in(self.folder / name, self.regtest.link_file(side).read_text(), "regtest")

    def environment(self, home: Home, **settings: str) -> dict[str, str]:
        return programs.environment(home.root, self.regtest.relay, PYLON_NETWORK="regtest", **settings)

    async def serve(self, home: Home, **settings: str) -> programs.Served:
        """`pylon start`, at 3 sat a job: more than a trial."""
        prices = {"PYLON_PROVIDER__PRICING": "paid", "PYLON_PROVIDER__BASE_MSAT": "3000", **settings}
        return await programs.start(self.environment(home, **prices), self.stack)

    async def map(self, home: Home, count: int, timeout_s: float = 120) -> dict[str, Any]:
        """Asks so many questions, and ends the customer again."""
        async with self.customer(home) as node:
            params = {"jobs": prompts(count), "timeout_s": timeout_s, "deadline_s": timeout_s}
            return await result_of(node, "map", params)

    def customer(self, home: Home) -> AbstractAsyncContextManager[Node]:
        return customer_of(home, self.regtest.relay, bid_msat=10_000)

    async def agreed(self, customer: Home, provider: Home) -> dict[str, Any]:
        """The customer's books, when they and the provider's are clean and say the same."""
        async with self.customer(customer) as node:
            return (await agreed(node, provider))[0]

    async def wallet(self, side: str, stack: AsyncExitStack) -> GuardedWallet:
        link = parse_uri(self.regtest.link_file(side).read_text())
        return await open_wallet(link, Network.REGTEST, SystemClock(), stack)

    async def balance(self, side: str) -> int:
        async with AsyncExitStack() as stack:
            return int(await (await self.wallet(side, stack)).balance())


@pytest.fixture
async def house(regtest, tmp_path):
    async with AsyncExitStack() as stack:
        yield House(regtest, tmp_path, stack)


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"line {number}", "max_tokens": 16} for number in range(count)]


def query(home: Home, sql: str) -> list[tuple]:
    """Reads what a process has written down so far; nothing while it has no database."""
    try:
        with closing(sqlite3.connect(f"file:{home.database}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.Error:
        return []


async def until(home: Home, sql: str, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not query(home, sql):
            await asyncio.sleep(0.01)
