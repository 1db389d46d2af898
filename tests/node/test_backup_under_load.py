"""`pylon backup` as a process beside nodes that work and pay, killed in the middle, and gone back to."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from pylon.money import audit
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home
from pylon.node.open_home import SCHEMAS
from pylon.node.restored import begin_restored
from pylon.store.database import Database
from pylon.store.look import look_into
from tests.node import programs
from tests.node.homes import customer_of
from tests.node.test_money_crash import Town, ask
from tests.node.test_money_crash import town as town
from tests.waiting import until

pytestmark = pytest.mark.slow
PAID = {"PYLON_PROVIDER__PRICING": "paid", "PYLON_PROVIDER__BASE_MSAT": "700"}
ASKS = {"PYLON_CUSTOMER__BID_MSAT": "5000", "PYLON_CUSTOMER__CHECK_SHARE": "0"}


def prompts(count: int) -> bytes:
    return b"".join(orjson.dumps({"prompt": f"line {n}", "max_tokens": 16}) + b"\n" for n in range(count))


async def mapped(customer: dict[str, str], count: int) -> dict:
    process = await programs.spawn(
        "map", "-", "--timeout", "300", "--json", env=customer,
        stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(prompts(count)), 400)
    return orjson.loads(out)


async def books_of(folder: Path) -> tuple[list, int]:
    """What an audit of a copy finds after its first start, and how many jobs it knows."""
    database = await Database.open(Home(folder).database, SCHEMAS, label="play")
    try:
        await begin_restored(database, 1.0)
        jobs = await database.fetch_one("SELECT count(*) FROM job")
        assert jobs is not None
        return audit.examine(await audit.collect(database)), jobs[0]
    finally:
        await database.close()


async def test_copies_of_nodes_that_work_and_pay_are_whole_and_their_books_hold(town: Town):
    # Eight seconds of work at least, in which several copies are made.
    takes = {"PYLON_INFERENCE__INSTANT_DELAY_S": "0.2", "PYLON_INFERENCE__SLOTS": "8"}
    provider, customer = await town.home("provider", **PAID, **takes), await town.home("customer", **ASKS)
    await programs.start(provider, town.stack)
    running = asyncio.create_task(mapped(customer, 300))
    await until(lambda: running.done() or ask(provider, "SELECT 1 FROM job"), within_s=100)
    copies: list[Path] = []
    while not running.done():
        for name, env in (("provider", provider), ("customer", customer)):
            copies.append(town.folder / f"{name}-{len(copies)}")
            code, made, text = await programs.run("backup", str(copies[-1]), env=env)
            assert (code, made["networks"]) == (0, ["play"]), text
    assert (await running)["answered"] == 300
    seen = set()
    for folder in copies:
        found = look_into(Home(folder).database, SCHEMAS, label="play", within_s=60)
        assert found is None or found.whole
        if found is not None:
            findings, jobs = await books_of(folder)
            assert findings == [], folder
            if folder.name.startswith("provider"):
                seen.add(jobs)
    # They are of several moments of the work.
    assert len(seen) > 1, seen


async def test_a_backup_that_is_killed_in_the_middle_is_none_and_the_next_one_is_whole(tmp_path):
    env = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    await programs.run("init", env=env)
    database = await Database.open(tmp_path / "home" / "play" / "pylon.db", SCHEMAS, label="play")
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE weight (what BLOB)")
        await tx.execute_many("INSERT INTO weight VALUES (zeroblob(?))", [(1_000_000,) for _ in range(200)])
    await database.close()
    copy, draft = tmp_path / "copy", tmp_path / "copy.unfinished"
    killed = 0
    for wait_s in (0.0, 0.1, 0.3):
        process = await programs.spawn("backup", str(copy), env=env)
        while process.returncode is None and not (draft / "play" / "pylon.db").exists():
            await asyncio.sleep(0.001)
        await asyncio.sleep(wait_s)
        if process.returncode is None:
            process.kill()
        await process.wait()
        killed += not copy.exists()
        if copy.exists():
            # It was done before.
            assert look_into(Home(copy).database, SCHEMAS, label="play", within_s=60)
            shutil.rmtree(copy)
        else:
            assert draft.exists()
    assert killed
    code, _, text = await programs.run("backup", str(copy), env=env)
    assert (code, draft.exists()) == (0, False), text
    with closing(sqlite3.connect(Home(copy).database)) as books:
        assert books.execute("SELECT count(*), sum(length(what)) FROM weight").fetchone() == (200, 200_000_000)


# What its provider signs after the copy waits a minute for what is missing before it.
@pytest.mark.timeout(400)
async def test_a_customer_that_goes_back_to_an_older_copy_keeps_what_it_has_with_its_provider(town: Town):
    provider, customer = (
        await town.home("provider", **PAID | {"PYLON_PROVIDER__BASE_MSAT": "150"}),
        await town.home("c"),
    )
    await programs.start(provider, town.stack)
    served, home, copy = Home(Path(provider["PYLON_HOME"])), Home(Path(customer["PYLON_HOME"])), town.folder / "copy"
    theirs = RemoteNode(served.socket)

    async def asked(count: int) -> None:
        for _ in range(count):
            row = await result_of(node, "ask", {"job": {"prompt": "a line", "max_tokens": 16}, "timeout_s": 60})
            assert row["text"], row

    async def left() -> int:
        books = await result_of(theirs, "wallet-audit")
        return sum(msat for account, msat in books["accounts"].items() if account.startswith("customer:"))

    async with customer_of(home, town.url, bid_msat=5_000) as node:
        await asked(3)
        assert (await programs.run("backup", str(copy), env=customer))[0] == 0
        # It pays again, and leaves more than the next job costs.
        await asked(6)
        while await left() < 150:
            await asked(1)
        paid = (await result_of(node, "wallet-audit"))["sent_msat"]
    shutil.rmtree(home.root)
    shutil.copytree(copy, home.root)
    async with customer_of(home, town.url, bid_msat=5_000) as node:
        books = await result_of(node, "wallet-audit")
        assert (books["audit"], books["sent_msat"] < paid) == ("clean", True), books
        await asked(1)
        await until(lambda: any(seqs_of(home)), within_s=150)
        # More than what was left: it is paid again.
        await asked(12)
        ours, other = await result_of(node, "wallet-audit"), await result_of(theirs, "wallet-audit")
        assert (ours["audit"], other["audit"]) == ("clean", "clean"), (ours, other)
        accounts = [msat for account, msat in ours["accounts"].items() if account.startswith("provider:")]
        assert accounts == [await left()]


def seqs_of(home: Home) -> list[int]:
    """The number of the last receipt that was accepted, of each provider."""
    with closing(sqlite3.connect(f"file:{home.database}?mode=ro", uri=True, timeout=5)) as books:
        return [row[0] for row in books.execute("SELECT seq FROM money_mirror")]
