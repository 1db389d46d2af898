"""Root models that are Pylon's own, for real: a model in its inference child, and a provider across a relay.

The engine is the stand-in, with a table that says what a root would.
"""

from contextlib import AsyncExitStack

import pytest

from pylon import config as settings
from pylon.clock import SystemClock
from pylon.inference.engine import EngineSpec
from pylon.inference.instant import MODEL_ID
from pylon.inference.service import InferenceService
from pylon.money.schema import MONEY
from pylon.node import identity
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.rlm import parts as rlm_parts
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.node.session import LocalNode
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.rows import SCHEMA
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.relay.server import RelayServer
from pylon.rlm import prompts
from pylon.rlm.loop_state import Reason
from pylon.rlm.roots import EngineRoot
from tests.opened import opened_database
from tests.rlm.fakes import Stage, repl
from tests.waiting import until

CONTEXT = "a text"
OPENING = prompts.task("what?", f"a str of {len(CONTEXT)} characters")
TABLE = {
    OPENING: "I look first.\n"
    + repl("said = llm_query('how long?')\nprint(len(context))\nFINAL(f'{said} {context}')"),
    "how long?": "six:",
}


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def inference(stack):
    """A real inference child."""
    service = InferenceService(EngineSpec("instant", MODEL_ID, slots=4, options={"table": TABLE}), SystemClock())
    await service.start()
    stack.push_async_callback(service.close)
    await until(lambda: service.status().state == "ready", within_s=600)
    return service


@pytest.fixture
async def core(stack, inference, tmp_path):
    """A customer's core, with one provider across a real relay."""
    relay = await stack.enter_async_context(RelayServer())
    secret = SecretKey.generate()
    database, group = await stack.enter_async_context(
        opened_database(tmp_path / "provider.db", SCHEMA, MONEY, label="play")
    )
    pool = RelayPool([relay.url], secret=secret)
    pool.start()
    stack.push_async_callback(pool.close)
    keys, journal = ConversationKeys(secret), Journal(database, group)
    provider = Provider(
        secret=secret,
        keys=keys,
        pool=pool,
        inference=inference,
        journal=journal,
        settings=ProviderSettings(),
        model=MODEL_ID,
    )
    await provider.start()
    stack.push_async_callback(provider.close)
    home = Home(tmp_path / "customer")
    home.create()
    identity.create(home.identity_file)
    config = settings.parse({"network": "play", "relays": [relay.url], "rlm": {"root": "swarm"}})
    return await stack.enter_async_context(Core(home, config, serve=False))


async def test_a_model_of_this_machine_is_the_root(tmp_path, inference):
    root = EngineRoot(inference, MODEL_ID, 32_768)
    stage = Stage(tmp_path, root, lambda _: "six:")
    outcome = await stage.run(context=CONTEXT)
    assert (outcome.answer, outcome.reason, outcome.turns) == ("six: a text", Reason.FINAL, 1)
    turn = stage.events("turn")[0]
    assert turn["model"] == MODEL_ID and turn["prompt_tokens"] > 100 and turn["completion_tokens"] > 5
    assert turn["finish"] == "stop"


async def test_an_engine_that_refuses_the_chat_ends_the_run_with_its_reason(tmp_path, inference):
    root = EngineRoot(inference, MODEL_ID, 1_000_000, max_tokens=100_000)
    outcome = await Stage(tmp_path, root).run(context=CONTEXT)
    assert (outcome.answer, outcome.reason) == (None, Reason.ROOT_FAILED)
    assert "stand-in takes" in outcome.detail


async def test_a_provider_of_the_swarm_is_the_root_and_another_job_its_sub_call(tmp_path, core):
    sub = SwarmSubLM(LocalNode(core))
    section = core.config.rlm
    async with rlm_parts.open_root(core.home, core.config, section, sub, SystemClock(), 65_536) as root:
        stage = Stage(tmp_path, root, sub)
        outcome = await stage.run(context=CONTEXT)
    assert (outcome.answer, outcome.reason, outcome.turns) == ("six: a text", Reason.FINAL, 1)
    turn = stage.events("turn")[0]
    assert (turn["model"], turn["finish"]) == (MODEL_ID, "stop")
    call = stage.events("returned")[0]
    assert call["model"] == MODEL_ID and len(call["provider"]) == 64 and "signature" in call["verified"]
