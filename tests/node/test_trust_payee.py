"""`pylon wallet trust-payee`, beside a node that runs and without one."""

import asyncio
import sys

import orjson
import pytest
from typer.testing import CliRunner

from pylon import config as settings
from pylon.cli.program import app
from pylon.money.payments import payees as payee_store
from pylon.money.schema import MONEY
from pylon.node import identity
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.open_home import SCHEMAS
from pylon.nostr.bech32 import nip19
from pylon.store.database import Database

THEM, OLD, NEW, NEWER = "aa" * 32, "02" + "11" * 32, "02" + "22" * 32, "02" + "33" * 32
NPUB = nip19.npub(THEM)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    home = Home(tmp_path)
    home.create()
    identity.create(home.identity_file)
    monkeypatch.setenv("PYLON_HOME", str(tmp_path))
    monkeypatch.setenv("PYLON_RELAYS", '["ws://127.0.0.1:9"]')
    asyncio.run(offer(home, NEW))
    return home


async def offer(home: Home, payee: str) -> None:
    database = await Database.open(home.database, SCHEMAS, label=home.network)
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO money_payee VALUES (?, ?, 0) ON CONFLICT DO NOTHING", (THEM, OLD))
        await payee_store.offered(tx, THEM, payee, 5.0)
    await database.close()


async def pinned(home: Home) -> str:
    database = await Database.open(home.database, [MONEY], label=home.network)
    row = await database.fetch_one("SELECT payee FROM money_payee")
    await database.close()
    return str(row["payee"])


def command(*arguments: str, typed: str = ""):
    return CliRunner().invoke(app, ["wallet", "trust-payee", *arguments], input=typed)


def test_both_nodes_and_what_was_paid_are_shown_and_yes_pins_the_new_one(home):
    ran = command(f"{NPUB[:14]}…", typed="yes\n")
    assert ran.exit_code == 0
    for said in (NPUB, OLD, NEW, "0 play sat were paid there"):
        assert said in ran.output
    assert asyncio.run(pinned(home)) == NEW


@pytest.mark.parametrize("typed", ["", "\n", "no\n", "yess\n"])
def test_anything_but_yes_changes_nothing(home, typed):
    ran = command(NPUB, typed=typed)
    assert ran.exit_code == 2 and "nothing was changed" in ran.output
    assert asyncio.run(pinned(home)) == OLD


def test_without_a_provider_those_that_ask_are_listed(home):
    listed = command().output
    assert all(key in listed for key in (NPUB, OLD, NEW))
    [row] = orjson.loads(command("--json").stdout)["offers"]
    assert (row["provider"], row["before"], row["payee"], row["paid_before_msat"]) == (NPUB, OLD, NEW, 0)
    assert command(NPUB, "--to", NEW, "--yes", "--json").exit_code == 0
    assert "no provider asks" in command().output
    assert orjson.loads(command(NPUB, "--to", NEW, "--yes", "--json").stdout)["error"]["message"].startswith(
        "this provider does not"
    )
    assert command("npub1nobody", "--to", NEW, "--yes").exit_code == 2


@pytest.mark.parametrize("arguments", [("--yes",), ("--yes", "--to", NEWER), ("--to", OLD)])
def test_a_script_says_which_node_it_means_and_no_other_is_trusted(home, arguments):
    assert command(NPUB, *arguments, typed="yes\n").exit_code == 2
    assert asyncio.run(pinned(home)) == OLD
    assert command(NPUB, "--to", NEW, typed="yes\n").exit_code == 0
    assert asyncio.run(pinned(home)) == NEW


def test_what_it_asks_for_while_a_person_looks_is_not_trusted(home, monkeypatch):
    async def swapped_meanwhile() -> str:
        await offer(home, NEWER)
        return "yes\n"

    monkeypatch.setattr("pylon.cli.stdin.line", swapped_meanwhile)
    ran = command(NPUB)
    assert ran.exit_code == 2 and "yet another node" in ran.output
    assert asyncio.run(pinned(home)) == OLD


async def test_a_node_that_runs_is_told(home):
    async with Core(home, settings.parse({"relays": ["ws://127.0.0.1:9"]}), serve=False) as core:
        pylon = ["-P", "-c", "from pylon.cli.main import main; main()"]
        arguments = [*pylon, "wallet", "trust-payee", NPUB, "--to", NEW, "--yes"]
        program = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, "--json", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(program.communicate(), 60)
        assert (program.returncode, orjson.loads(said)["payee"]) == (0, NEW)
        assert (await core.opened.database.fetch_one("SELECT payee FROM money_payee"))["payee"] == NEW
