"""Real Lightning for the tests: the stack of `scripts/regtest`, and homes whose wallets are on it."""

import fcntl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pylon.bench.regtest import Regtest, default_folder
from pylon.clock import SystemClock
from pylon.errors import SetupError
from pylon.money.guard import GuardedWallet
from pylon.money.network import Network
from pylon.money.nwc_uri import parse_uri
from pylon.node.purse import open_wallet
from tests.node import programs


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
    """Homes on regtest. `env` of a home is what its commands run in."""

    regtest: Regtest
    folder: Path
    stack: AsyncExitStack

    async def home(self, name: str, side: str, **settings: str) -> dict[str, str]:
        env = programs.environment(self.folder / name, self.regtest.relay, PYLON_NETWORK="regtest", **settings)
        assert (await programs.run("init", env=env))[0] == 0
        link = self.regtest.link_file(side).read_bytes()
        code, _, said = await programs.run("wallet", "connect", "-", env=env, stdin=link)
        assert code == 0, said
        return env

    async def provider(self, name: str = "provider", **settings: str) -> dict[str, str]:
        prices = {"PYLON_PROVIDER__PRICING": "paid", "PYLON_PROVIDER__BASE_MSAT": "3000"}
        return await self.home(name, "provider", **{**prices, **settings})

    async def customer(self, name: str = "customer", **settings: str) -> dict[str, str]:
        return await self.home(name, "buyer", **{"PYLON_CUSTOMER__BID_MSAT": "10000", **settings})

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


async def clean(env: dict[str, str]) -> dict[str, Any]:
    """The audit of a home, which must find nothing."""
    _, books, said = await programs.run("wallet", "audit", env=env)
    assert books["audit"] == "clean", (books, said)
    return books


def database(env: dict[str, str]) -> Path:
    return Path(env["PYLON_HOME"]) / "regtest" / "pylon.db"
