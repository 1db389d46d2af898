"""kill -9 of either side in the middle of paid work, as processes: nothing is paid twice, and both books agree."""

import asyncio
import random
import sqlite3
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from pylon.node.bank import BankHost, bank_socket
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home
from pylon.relay.server import RelayServer
from tests.node import programs
from tests.node.homes import agreed, customer_of, move_in
from tests.waiting import until

JOBS = 6
PROMPTS = [{"prompt": f"line {n}", "max_tokens": 16} for n in range(JOBS)]
# The states in which somebody dies: whose database says so, and what it says.
MOMENTS = {
    "customer reserved": ("customer", "SELECT 1 FROM money_payment WHERE state = 'reserved'"),
    "customer sending": ("customer", "SELECT 1 FROM money_payment WHERE state = 'sending'"),
    "customer settled": ("customer", "SELECT 1 FROM money_payment WHERE state = 'settled'"),
    "customer has a receipt": ("customer", "SELECT 1 FROM money_claim"),
    "customer ordered": ("customer", "SELECT 1 FROM money_order"),
    "provider holds": ("provider", "SELECT 1 FROM money_hold WHERE state = 'held'"),
    "provider asked": ("provider", "SELECT 1 FROM money_invoice WHERE state = 'pending'"),
    "provider credited": ("provider", "SELECT 1 FROM money_ledger WHERE kind = 'topup_received'"),
    "provider queued": ("provider", "SELECT 1 FROM job WHERE state = 'queued'"),
    "provider signed": ("provider", "SELECT 1 FROM job WHERE state = 'signed'"),
}


def ask(home: dict[str, str], sql: str) -> list[tuple]:
    path = Path(home["PYLON_HOME"]) / "play" / "pylon.db"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.Error:
        # Not made yet.
        return []


@dataclass
class Town:
    """A relay with its playbank, on which histories play one after another."""

    folder: Path
    stack: AsyncExitStack
    bank: RemoteNode
    url: str

    async def home(self, name: str, **settings: str) -> dict[str, str]:
        """A home as `init` and `wallet connect` make it, with 500 play sat; the environment of its commands."""
        env = programs.environment(self.folder / name, self.url, **settings)
        move_in(self.folder / name, (await result_of(self.bank, "bank-link", {"account": name}))["link"])
        await result_of(self.bank, "bank-faucet", {"account": name, "sats": 500})
        return env


@pytest.fixture
async def town(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        await stack.enter_async_context(BankHost(tmp_path / "bank", relay.url))
        yield Town(tmp_path, stack, RemoteNode(bank_socket(tmp_path / "bank")), relay.url)


async def start_map(customer: dict[str, str]) -> asyncio.subprocess.Process:
    process = await programs.spawn(
        "map", "-", "--timeout", "120", "--json", env=customer,
        stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"\n".join(map(orjson.dumps, PROMPTS)) + b"\n")
    process.stdin.close()
    return process


async def history(town: Town, seed: int) -> str:
    """One history; the moment at which somebody died in it, or empty when it went by unseen."""
    rng = random.Random(seed)
    moment = list(MOMENTS)[seed % len(MOMENTS)]
    victim, sql = MOMENTS[moment]
    provider = await town.home(
        f"provider-{seed}",
        PYLON_PROVIDER__PRICING="paid",
        PYLON_PROVIDER__BASE_MSAT=str(rng.choice([700, 2_500])),
        PYLON_INFERENCE__INSTANT_DELAY_S=str(rng.choice([0.0, 0.3])),
    )
    customer = await town.home(f"customer-{seed}", PYLON_CUSTOMER__BID_MSAT="5000")
    serving = await programs.start(provider, town.stack)
    running = await start_map(customer)
    died = ""
    home = provider if victim == "provider" else customer
    while running.returncode is None and not died:
        if ask(home, sql):
            await asyncio.sleep(rng.choice([0.0, 0.0, 0.02, 0.1]))
            died = moment
        await asyncio.sleep(0.002)
    if victim == "provider":
        await serving.kill()
        serving = await programs.start(provider, town.stack)
    elif running.returncode is None:
        running.kill()
    await running.communicate()
    await come_back(town, customer, provider, moment)
    await serving.stop()
    return died


async def come_back(town: Town, customer: dict[str, str], provider: dict[str, str], moment: str) -> None:
    """The customer's next process: it asks again, learns what it missed, and both books agree."""
    async with customer_of(Home(Path(customer["PYLON_HOME"])), town.url, bid_msat=5_000) as node:
        params = {"jobs": PROMPTS, "timeout_s": 60, "deadline_s": 60}
        mapped = await result_of(node, "map", params)
        # A request to pay that died on its way blocks this provider until its invoice can no longer be paid.
        unsure = ask(customer, "SELECT 1 FROM money_payment WHERE state = 'unknown'")
        if mapped["answered"] < JOBS and not unsure:
            # Work waits behind an invoice that died with its customer, until it runs out.
            await until(
                lambda: not ask(provider, "SELECT 1 FROM money_invoice WHERE state = 'pending'"), within_s=240
            )
            mapped = await result_of(node, "map", params)
        assert mapped["answered"] == JOBS or unsure, (moment, mapped)
        ours, theirs = await agreed(node, Home(Path(provider["PYLON_HOME"])))
    payments = ask(customer, "SELECT job, state FROM money_payment")
    settled = [job for job, state in payments if state == "settled"]
    assert len(settled) == len(set(settled)) == ours["payments"], moment
    # No work beyond the credit: a trial job is the most that a stranger may owe.
    assert theirs["earned_msat"] - theirs["received_msat"] <= 2_000, moment
    assert ask(customer, "SELECT ended FROM money_mirror WHERE ended IS NOT NULL") == [], moment


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("start", range(0, 50, 10))
async def test_fifty_histories_of_processes_that_die(town, start):
    died = [await history(town, seed) for seed in range(start, start + 10)]
    # Histories in which nobody died would prove nothing.
    assert sum(map(bool, died)) >= 7, died
