"""`scripts/demo`: the main job on real parts, all of them on this machine.

A relay, two providers and a customer, each a process with a home and a key of its own, started through the same
commands that people use. The customer maps a question over a real text (the language reference that every Python
carries) in which one fact was planted; the model has to find it.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data import topics
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from pylon.bench.regtest import Regtest, default_folder
from pylon.bench.stage import Stage
from pylon.errors import PylonError
from pylon.inference.models import needle
from pylon.inference.weights import model_directory, weights_sha256
from pylon.jobs.kinds import RESULT_KINDS
from pylon.jobs.result import parse_result
from pylon.node import identity
from pylon.node.home import Home
from pylon.nostr import nip19
from pylon.nostr.filter import Filter
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool

err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)

PROVIDERS = 2
# Half a play sat a job and a little for each token of the answer.
PRICES = {
    "PYLON_PROVIDER__PRICING": "paid",
    "PYLON_PROVIDER__BASE_MSAT": "500",
    "PYLON_PROVIDER__OUT_MSAT_PER_1K": "10000",
}
BID_MSAT = 5_000
FAUCET_SAT = 5_000
ADJECTIVES = ("amber", "golden", "silver", "cosmic", "hollow", "crimson", "scarlet", "velvet")
NOUNS = ("falcon", "harbor", "lantern", "meadow", "anchor", "comet", "willow", "river")


@dataclass
class Task:
    """What is asked: a text with one planted fact."""

    text: str
    key: str
    value: str

    @property
    def question(self) -> str:
        return needle.QUESTIONS[0].format(key=self.key)

    def prompts(self) -> list[str]:
        return [needle.prompt(self.question, chunk) for chunk in needle.chunks(self.text)]


def make_task(characters: int, seed: int) -> Task:
    """The text, with the fact somewhere in it."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    source = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    text = (source * (characters // len(source) + 1))[:characters]
    key = f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"
    value = str(rng.randint(1_000_000, 9_999_999))
    at = text.index(" ", rng.randrange(characters // 10, characters - characters // 10))
    return Task(f"{text[:at]} The special magic number for {key} is {value}.{text[at:]}", key, value)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Says what is being done, and how long it took."""
    started = time.monotonic()
    err.print(f"demo: {what} …", style="dim")
    yield
    err.print(f"demo: {what}: {time.monotonic() - started:.1f} s", style="dim")


def provider_names() -> list[str]:
    """The homes of the providers."""
    return [f"provider-{number}" for number in range(1, PROVIDERS + 1)]


@dataclass(frozen=True)
class Money:
    """What the demo is paid in: play money from the playbank, or the coins of a private chain over real Lightning."""

    network: str = "play"
    links: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        return {"PYLON_NETWORK": self.network}


def real_lightning() -> Money:
    """Two wallets on a private chain, as `scripts/regtest` keeps them; they stay up afterwards."""
    regtest = Regtest(default_folder(), lambda text: err.print(f"demo: {text} …", style="dim"))
    links = regtest.up()["links"]
    return Money("regtest", {side: Path(path).read_text(encoding="utf-8") for side, path in links.items()})


async def set_up(stage: Stage, slots: int, money: Money) -> dict[str, str]:
    """A relay with its playbank, providers that are ready, and a customer with money: its environment."""
    with step("a relay, two providers and a customer, each with its own process, key, home and wallet"):
        keeper = await stage.open_relay()
        settings = {"PYLON_INFERENCE__SLOTS": str(slots), **PRICES, **money.settings}
        for name in provider_names():
            link = money.links.get("provider", "")
            env = await stage.move_in(name, link=link, PYLON_PROVIDER__NAME=name, **settings)
            await stage.serve("start", env=env, log=f"{name}.log")
        link = money.links.get("buyer", "")
        customer = await stage.move_in(
            "customer", link=link, PYLON_CUSTOMER__BID_MSAT=str(BID_MSAT), **money.settings
        )
        if not money.links:
            await stage.run("wallet", "faucet", str(FAUCET_SAT), "--account", "customer", env=keeper)
        await stage.wait_for_providers(PROVIDERS, customer)
        return customer


async def check(stage: Stage, outcomes: list[dict[str, Any]], sha256: str, network: str) -> int:
    """How many results hold, read from the relay again and judged apart from the customer's own code path:
    signature, author, addressee, sealed text, and a receipt that names the model's true weights."""
    home = Home(stage.folder / "customer", network)
    secret = identity.load(home.identity_file)
    keys = ConversationKeys(secret)
    wanted = {o["result_id"]: o for o in outcomes if o["error"] is None}
    pool = RelayPool([stage.relay], secret=secret)
    pool.start()
    good = 0
    try:
        ids = list(wanted)
        for at in range(0, len(ids), 200):
            some = frozenset(ids[at : at + 200])
            for event in await pool.query((Filter(ids=some, kinds=RESULT_KINDS),)):
                outcome, result = wanted[event.id], parse_result(event, keys)
                good += (
                    event.pubkey == outcome["provider"]
                    and event.tag("p") == secret.public
                    and event.tag("e") == outcome["request_id"]
                    and result.text == outcome["text"]
                    and result.model is not None
                    and result.model.sha256 == sha256
                    and result.usage is not None
                    and result.account is not None
                    and result.account.charge_msat == outcome["paid_msat"]
                )
    finally:
        await pool.close()
    return good


async def settle_up(stage: Stage, customer: dict[str, str], result: dict[str, Any], money: Money) -> dict[str, Any]:
    """What the run cost, by the customer's books and by the providers', and whether all of them are clean."""
    # What a second provider charged for a job that the first one answered late comes when nobody waits any more.
    await stage.run("providers", "--wait", "2", env=customer)
    books = await stage.run("wallet", "audit", env=customer)
    theirs = [
        await stage.run("wallet", "audit", env=stage.environment(name, **PRICES, **money.settings))
        for name in provider_names()
    ]
    charged = sum(row["paid_msat"] for row in result["providers"].values())
    agreed = charged <= books["spent_msat"] == sum(one["earned_msat"] for one in theirs)
    agreed = agreed and all(one["audit"] == "clean" for one in (books, *theirs))
    return {
        "network": money.network,
        "sats": books["spent_msat"] / 1_000,
        "deposited_sats": books["paid_msat"] / 1_000,
        "lightning_payments": books["payments"],
        "audit": "clean" if agreed else "not clean",
    }


async def demo(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole thing; its figures."""
    stage = Stage(folder)
    kept = False
    try:
        money = real_lightning() if arguments.lightning else Money()
        customer = await set_up(stage, arguments.slots, money)
        task = make_task(arguments.chars, arguments.seed)
        prompts = task.prompts()
        file = folder / "prompts.jsonl"
        file.write_bytes(b"".join(orjson.dumps({"prompt": p, "max_tokens": 16}) + b"\n" for p in prompts))
        err.print(f"demo: {len(task.text):,} characters in {len(prompts)} chunks: {task.question}", style="dim")
        with step("the map"):
            result = await stage.run("map", str(file), "--timeout", "300", env=customer)
        with step("reading the results from the relay again, to check them"):
            sha256 = weights_sha256(model_directory(needle.MODEL_ID, folder))
            verified = await check(stage, result["outcomes"], sha256, money.network)
        with step("the books of all three"):
            settled = await settle_up(stage, customer, result, money)
        found = Counter(o["text"].strip() for o in result["outcomes"] if o["error"] is None)
        found.pop(needle.ABSENT, None)
        report = {
            "jobs": result["jobs"],
            "answered": result["answered"],
            "providers": len(result["providers"]),
            "verified": verified,
            "wall_s": result["wall_s"],
            "p50_ms": result["p50_ms"],
            "p99_ms": result["p99_ms"],
            "model": needle.MODEL_ID,
            "question": task.question,
            "expected": task.value,
            "found": dict(found.most_common(5)),
            "context_chars": len(task.text),
            "by_provider": result["providers"],
            **settled,
        }
        if arguments.keep:
            kept = True
            _tell_how_to_connect(stage, folder)
        return report
    finally:
        if not kept:
            await stage.close()


def _tell_how_to_connect(stage: Stage, folder: Path) -> None:
    pids = " ".join(str(process.pid) for process in stage.processes)
    err.print(f"\nLeft running: relay {stage.relay}, processes {pids}, homes in {folder}")
    err.print("As their customer, in this folder:")
    err.print(f"  export PYLON_HOME={folder / 'customer'} PYLON_RELAYS='[\"{stage.relay}\"]'")
    err.print("  .venv/bin/pylon providers")
    err.print(f"End them: kill {pids}")


def show(report: dict[str, Any]) -> None:
    """The figures as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = (
        "provider",
        ">jobs",
        ">tokens in",
        ">tokens out",
        ">tokens/s",
        ">p50 ms",
        ">p99 ms",
        f">{report['network']} sats",
    )
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for public, row in report["by_provider"].items():
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        table.add_row(
            nip19.npub(public)[:20] + "…", str(row["jobs"]), f"{row['prompt_tokens']:,}",
            str(row["completion_tokens"]), f"{tokens / report['wall_s']:,.0f}",
            str(row["p50_ms"]), str(row["p99_ms"]),
            f"{row['paid_msat'] / 1_000:,.3f}",
        )  # fmt: skip
    out.print(table)
    out.print(
        f"\n{report['answered']} of {report['jobs']} chunks answered by {report['providers']} providers running"
        f" {report['model']} in {report['wall_s']:.1f} s; {report['verified']} results verified"
    )
    out.print(
        f"{report['sats']:,.3f} {report['network']} sats for the work, out of {report['deposited_sats']:,.0f}"
        f" deposited in {report['lightning_payments']} payments; the books of all three are {report['audit']}"
    )
    answers = ", ".join(f"{text!r} ({count} chunks)" for text, count in report["found"].items()) or "nothing"
    out.print(f"{report['question']}\n  planted {report['expected']}, found {answers}")


def main() -> int:
    """The program's entry: 0 when every chunk was answered, every result holds and both providers took part."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help="leave relay and providers running")
    parser.add_argument(
        "--lightning", action="store_true", help="pay over real Lightning on a private chain (see scripts/regtest)"
    )
    parser.add_argument("--chars", type=int, default=250_000, help="length of the text (default 250000)")
    parser.add_argument("--seed", type=int, default=1, help="where the fact is planted, and which (default 1)")
    parser.add_argument("--slots", type=int, default=16, help="jobs that a provider runs at once (default 16)")
    arguments = parser.parse_args()
    if importlib.util.find_spec("mlx_lm") is None:
        parser.error("the MLX engine is not installed; run scripts/setup")
    folder = Path(tempfile.mkdtemp(prefix="pylon-demo-"))
    try:
        report = asyncio.run(demo(arguments, folder))
    except PylonError as error:
        err.print(f"demo: {error}\n  {error.hint or f'Logs are in {folder}.'}", style="red")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        sys.stdout.write(orjson.dumps(report).decode() + "\n")
    else:
        show(report)
    whole = report["answered"] == report["verified"] == report["jobs"] and report["providers"] == PROVIDERS
    whole = whole and report["audit"] == "clean"
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
