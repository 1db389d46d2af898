"""`pylon drain`: what it says while it waits, and what it came to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from pylon import config as settings
from pylon.node import identity
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import Event, Result, result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.relay.server import RelayServer
from tests.customer import Customer
from tests.node import programs
from tests.node.held import hold_answers
from tests.waiting import until

# No test waits for that long.
LONG_S = 600.0


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def busy_node(tmp_path, stack, delay_s: float) -> Core:
    """A node that serves, with one job in its engine."""
    relay = await stack.enter_async_context(RelayServer())
    home = Home(tmp_path, "play")
    home.create()
    identity.create(home.identity_file)
    raw = {
        "relays": [relay.url],
        "inference": {"engine": "instant", "instant_delay_s": delay_s},
        "owner": {"rules": False},
    }
    core = await stack.enter_async_context(Core(home, settings.parse(raw), serve=True))
    secret = SecretKey.generate()
    pool = RelayPool([relay.url], secret=secret)
    pool.start()
    stack.push_async_callback(pool.close)
    customer = Customer(pool, secret)
    stack.push_async_callback(customer.close)
    await customer.ask(core.opened.secret.public, customer.job())
    await until(lambda: core.serving.provider.left.running, within_s=60)
    return core


async def test_a_drain_tells_what_is_left_without_counting_the_journal_and_ends_when_nothing_is(
    tmp_path, stack, monkeypatch
):
    let = hold_answers(monkeypatch)
    core = await busy_node(tmp_path, stack, 0.0)

    async def counted(_: Journal) -> dict[str, int]:
        raise AssertionError("the rows of ninety days were counted")

    monkeypatch.setattr(Journal, "counts", counted)
    answers = []
    async with asyncio.timeout(60):
        async for answer in RemoteNode(core.home.socket).call("drain"):
            answers.append(answer)
            let.set()
    assert answers[0] == Event({"running": 1, "queued": 0, "unpublished": 0})
    assert answers[-1] == Result({"drained": True})
    assert core.serving.provider.draining and not core.serving.provider.left.running


async def test_a_drain_that_was_ended_by_resume_does_not_say_that_it_is_done(tmp_path, stack):
    core = await busy_node(tmp_path, stack, LONG_S)
    env = programs.environment(tmp_path, "ws://127.0.0.1:9")
    call = asyncio.create_task(result_of(RemoteNode(core.home.socket), "drain"))
    command = asyncio.create_task(programs.run("drain", env=env))
    async with asyncio.timeout(60):
        while not (call.done() and command.done()):
            # However slowly the one or the other begins.
            await result_of(RemoteNode(core.home.socket), "resume")
            await asyncio.sleep(0.5)
        assert await call == {"drained": False}
        code, said, _ = await command
    assert (code, "takes jobs again" in said["error"]["message"]) == (1, True)


async def test_a_drain_that_fails_says_so(tmp_path, stack, monkeypatch):
    core = await busy_node(tmp_path, stack, LONG_S)

    async def fails(**_: float) -> bool:
        raise OSError("the engine is gone")

    monkeypatch.setattr(core.serving.provider, "drain", fails)
    with pytest.raises(Exception, match=r"the node failed \(OSError\)"):
        await result_of(RemoteNode(core.home.socket), "drain")
