"""`pylon bench money`: many jobs paid in play money through the shipped commands, and what accounts add to a job.

Relay, playbank, providers and customer are processes on this machine, each with its own home; engines answer at once.
It counts payments and ledger entries, and says whether all books agree.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pylon.bench.accounts import overhead
from pylon.bench.local_swarm import LocalSwarm, local_swarm
from pylon.money.nwc.uri import parse_uri
from pylon.node import identity
from pylon.node.bank import bank_socket
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home
from pylon.node.wallet.connection import save_link

FAUCET_SAT = 50_000
MAX_TOKENS = 16
# Half a play sat a job, and a little for each token of the answer.
PRICES = {
    "PYLON_PROVIDER__PRICING": "paid",
    "PYLON_PROVIDER__BASE_MSAT": "500",
    "PYLON_PROVIDER__OUT_MSAT_PER_1K": "10000",
    "PYLON_INFERENCE__ENGINE": "instant",
    "PYLON_INFERENCE__INSTANT_DELAY_S": "0.02",
}
BID_MSAT = 5_000

type Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many jobs, and how many providers."""

    jobs: int
    providers: int

    @property
    def names(self) -> list[str]:
        return [f"provider-{number}" for number in range(1, self.providers + 1)]


async def bench(plan: Plan, say: Say) -> dict[str, Any]:
    """Runs the benchmark; returns its report. However it ends, it leaves no process and no file."""
    async with local_swarm("pylon-money-") as swarm:
        say("what accounts add to a job, measured by itself")
        alone = await overhead(plan.jobs, swarm.folder)
        say(f"a relay with its playbank, {plan.providers} providers, one customer")
        customer = await _set_up(swarm, plan)
        say(f"{plan.jobs} paid jobs")
        started = time.monotonic()
        result = await swarm.run("map", str(_prompts(swarm.folder, plan)), "--timeout", "600", env=customer)
        wall_s = time.monotonic() - started
        say("everybody's books")
        books = await _books(swarm, plan, customer, result)
        answered = {"jobs": plan.jobs, "answered": result["answered"], "providers": len(result["providers"])}
        return {**answered, "wall_s": round(wall_s, 1), **books, **alone}


async def _set_up(swarm: LocalSwarm, plan: Plan) -> dict[str, str]:
    keeper = await swarm.open_relay()
    bank = RemoteNode(bank_socket(swarm.folder / "relay"))

    async def move_in(name: str, **settings: str) -> dict[str, str]:
        # The same as `init`, `wallet link` and `wallet connect`, without a process for each.
        home = Home(swarm.folder / name)
        home.create()
        identity.create(home.identity_file)
        save_link(home, parse_uri((await result_of(bank, "bank-link", {"account": name}))["link"]))
        return swarm.environment(name, **settings)

    async def provider(name: str) -> None:
        env = await move_in(name, PYLON_PROVIDER__NAME=name, **PRICES)
        await swarm.serve("start", env=env, log=f"{name}.log")

    await asyncio.gather(*map(provider, plan.names))
    customer = await move_in("customer", PYLON_CUSTOMER__BID_MSAT=str(BID_MSAT))
    await swarm.run("wallet", "faucet", str(FAUCET_SAT), "--account", "customer", env=keeper)
    await swarm.wait_for_providers(plan.providers, customer)
    return customer


def _prompts(folder: Path, plan: Plan) -> Path:
    file = folder / "prompts.jsonl"
    rows = ({"prompt": f"line {number}", "max_tokens": MAX_TOKENS} for number in range(plan.jobs))
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return file


async def _books(swarm: LocalSwarm, plan: Plan, customer: dict[str, str], result: dict[str, Any]) -> dict[str, Any]:
    # Where a job was sent twice, the second provider's charge may come after the answer: wait for its receipt.
    await swarm.run("providers", "--wait", "3", env=customer)
    ours = await swarm.run("wallet", "audit", env=customer)
    nodes = [RemoteNode(Home(swarm.folder / name).socket) for name in plan.names]
    theirs = [await result_of(node, "wallet-audit") for node in nodes]
    charged = sum(row["paid_msat"] for row in result["providers"].values())
    agreed = (
        ours["paid_msat"] == sum(one["earned_msat"] for one in theirs)
        and ours["sent_msat"] == sum(one["received_msat"] for one in theirs)
        and ours["paid_msat"] >= charged
    )
    clean = agreed and all(one["audit"] == "clean" for one in (ours, *theirs))
    return {
        "network": "play",
        "sats": ours["paid_msat"] / 1_000,
        "deposited_sats": ours["sent_msat"] / 1_000,
        "lightning_payments": ours["payments"],
        "ledger_entries": ours["entries"] + sum(one["entries"] for one in theirs),
        "audit": "clean" if clean else "not clean",
    }
