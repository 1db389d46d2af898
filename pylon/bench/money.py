"""`pylon bench money`: many paid jobs over a few providers, through the shipped commands; then what accounts cost.

Relay, playbank, providers and customer are processes of this machine, each with a home of its own; engines answer
at once. What is counted is money: payments, entries, and whether everybody's books agree.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pylon.bench.accounts import overhead
from pylon.bench.stage import Stage, staged
from pylon.money.nwc.uri import parse_uri
from pylon.node import identity
from pylon.node.bank import bank_socket
from pylon.node.calls.control import RemoteNode, result_of
from pylon.node.home import Home
from pylon.node.wallet.purse import save_link

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
    """How many jobs, over how many providers."""

    jobs: int
    providers: int

    @property
    def names(self) -> list[str]:
        return [f"provider-{number}" for number in range(1, self.providers + 1)]


async def bench(plan: Plan, say: Say) -> dict[str, Any]:
    """Runs it; the report. However it ends, it leaves no process and no file."""
    async with staged("pylon-money-") as stage:
        say("what accounts add to a job, measured by itself")
        alone = await overhead(plan.jobs, stage.folder)
        say(f"a relay with its playbank, {plan.providers} providers, one customer")
        customer = await _set_up(stage, plan)
        say(f"{plan.jobs} paid jobs")
        started = time.monotonic()
        result = await stage.run("map", str(_prompts(stage.folder, plan)), "--timeout", "600", env=customer)
        wall_s = time.monotonic() - started
        say("everybody's books")
        books = await _books(stage, plan, customer, result)
        answered = {"jobs": plan.jobs, "answered": result["answered"], "providers": len(result["providers"])}
        return {**answered, "wall_s": round(wall_s, 1), **books, **alone}


async def _set_up(stage: Stage, plan: Plan) -> dict[str, str]:
    keeper = await stage.open_relay()
    bank = RemoteNode(bank_socket(stage.folder / "relay"))

    async def move_in(name: str, **settings: str) -> dict[str, str]:
        # What `init`, `wallet link` and `wallet connect` do, without a process for each.
        home = Home(stage.folder / name)
        home.create()
        identity.create(home.identity_file)
        save_link(home, parse_uri((await result_of(bank, "bank-link", {"account": name}))["link"]))
        return stage.environment(name, **settings)

    async def provider(name: str) -> None:
        env = await move_in(name, PYLON_PROVIDER__NAME=name, **PRICES)
        await stage.serve("start", env=env, log=f"{name}.log")

    await asyncio.gather(*map(provider, plan.names))
    customer = await move_in("customer", PYLON_CUSTOMER__BID_MSAT=str(BID_MSAT))
    await stage.run("wallet", "faucet", str(FAUCET_SAT), "--account", "customer", env=keeper)
    await stage.wait_for_providers(plan.providers, customer)
    return customer


def _prompts(folder: Path, plan: Plan) -> Path:
    file = folder / "prompts.jsonl"
    rows = ({"prompt": f"line {number}", "max_tokens": MAX_TOKENS} for number in range(plan.jobs))
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return file


async def _books(stage: Stage, plan: Plan, customer: dict[str, str], result: dict[str, Any]) -> dict[str, Any]:
    # What a second provider charged for a job that the first one answered late comes when nobody waits any more.
    await stage.run("providers", "--wait", "3", env=customer)
    ours = await stage.run("wallet", "audit", env=customer)
    nodes = [RemoteNode(Home(stage.folder / name).socket) for name in plan.names]
    theirs = [await result_of(node, "wallet-audit") for node in nodes]
    charged = sum(row["paid_msat"] for row in result["providers"].values())
    agreed = (
        ours["spent_msat"] == sum(one["earned_msat"] for one in theirs)
        and ours["paid_msat"] == sum(one["received_msat"] for one in theirs)
        and ours["spent_msat"] >= charged
    )
    clean = agreed and all(one["audit"] == "clean" for one in (ours, *theirs))
    return {
        "network": "play",
        "sats": ours["spent_msat"] / 1_000,
        "deposited_sats": ours["paid_msat"] / 1_000,
        "lightning_payments": ours["payments"],
        "ledger_entries": ours["entries"] + sum(one["entries"] for one in theirs),
        "audit": "clean" if clean else "not clean",
    }
