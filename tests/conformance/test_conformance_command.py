"""`pylon conformance` as people use it, against a node that serves and against a wrong provider."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
from typer.testing import CliRunner

from pylon.cli.program import app
from pylon.conformance.clauses import Clause
from pylon.jobs.kinds import ANNOUNCEMENT
from pylon.nostr.bech32 import nip19
from pylon.nostr.filter import Filter
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from tests.conformance.bare import BareProvider
from tests.node import programs

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


async def until_a_model_is_announced(relay: RelayServer) -> None:
    """A node is there before its model is."""
    pool = RelayPool([relay.url])
    pool.start()
    try:
        await pool.wait_open(10)
        async with asyncio.timeout(30):
            while not any(e.tag("model") for e in await pool.query((Filter(kinds=frozenset({ANNOUNCEMENT})),))):
                await asyncio.sleep(0.05)
    finally:
        await pool.close()


async def test_a_node_that_serves_conforms(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        # An answer must take a moment, or no cancellation would ever come in time.
        env = programs.environment(tmp_path / "home", relay.url, PYLON_INFERENCE__INSTANT_DELAY_S="1")
        _, made, _ = await programs.run("init", env=env)
        await programs.start(env, stack)
        await until_a_model_is_announced(relay)
        code, report, _ = await programs.run("conformance", made["npub"], "--silence", "2", env=env)
        assert [clause for clause in report["clauses"] if clause["outcome"] != "pass"] == []
        assert (code, report["conforms"], report["passed"]) == (0, True, len(Clause))
        assert report["relays"] == [relay.url]


async def test_the_command_fails_for_a_wrong_provider_and_needs_no_home(tmp_path):
    async with RelayServer() as relay, BareProvider(relay.url, "is silent") as provider:
        env = programs.environment(tmp_path / "nowhere", "ws://127.0.0.1:9")
        npub = nip19.npub(provider.public)
        arguments = ("conformance", npub, "--relay", relay.url, "--timeout", "1", "--silence", "0.5")
        code, report, _ = await programs.run(*arguments, env=env)
        failed = [clause for clause in report["clauses"] if clause["outcome"] == "fail"]
        assert (code, [clause["clause"] for clause in failed]) == (1, ["answered"])
        assert failed[0]["place"] == "The exchange" and failed[0]["why"] == "no answer arrived"


def test_without_a_relay_the_command_says_which_it_tried(monkeypatch):
    monkeypatch.setattr("pylon.conformance.run.OPEN_S", 0.5)
    npub = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    ran = CliRunner().invoke(app, ["conformance", npub, "--relay", "ws://127.0.0.1:9", "--json"])
    error = orjson.loads(ran.stdout)
    assert (ran.exit_code, error["error"]["type"]) == (4, "UnreachableError")
    assert "ws://127.0.0.1:9" in error["error"]["message"]


def test_every_clause_names_a_heading_of_the_protocol_page():
    lines = PROTOCOL.read_text(encoding="utf-8").splitlines()
    headings = {line.lstrip("# ") for line in lines if line.startswith("##")}
    assert {clause.place for clause in Clause} <= headings


def test_every_clause_is_documented():
    page = (PROTOCOL.parent / "conformance.md").read_text(encoding="utf-8")
    for clause in Clause:
        assert f"| `{clause.value}` | {clause.says} | {clause.place} |" in page
