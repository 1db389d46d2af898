"""The `ask` call of the control socket: one job, and pieces of its answer."""

import asyncio
import time

import pytest

from pylon.errors import UnreachableError, UsageError
from pylon.node.calls.protocol import Event, Result
from pylon.node.single import ask_one
from pylon.nostr.keys import SecretKey
from pylon.sections import CustomerSection
from pylon.swarm.client import SwarmClient
from pylon.swarm.settings import DispatchSettings, SwarmSettings
from tests.swarm.fakes import FakeProvider, FakeRelays


class Relays(FakeRelays):
    async def wait_open(self, patience_s: float) -> None:
        """These always are."""


async def asked(params, *, providers=1):
    relays = Relays()
    for _ in range(providers):
        FakeProvider(relays, now=time.time(), slots=4)
    settings = SwarmSettings(dispatch=DispatchSettings(patience_s=0.5))
    async with SwarmClient(relays, SecretKey.generate(), settings=settings) as client:
        async with asyncio.timeout(20):
            return [answer async for answer in ask_one(client, relays, CustomerSection(patience_s=0.5), params)]


async def test_one_question_is_answered_with_its_cost():
    [result] = await asked({"job": {"prompt": "a"}})
    assert isinstance(result, Result) and result.data["text"] == "echo: a"
    assert (result.data["charged_msat"], result.data["most_msat"]) == (0, 0)


async def test_a_streamed_question_ends_with_the_same_row():
    *_, result = await asked({"job": {"prompt": "a"}, "stream": True})
    assert isinstance(result, Result) and result.data["text"] == "echo: a"


async def test_a_malformed_question_is_a_row_that_says_so():
    [result] = await asked({"job": {"prompt": "a", "max_tokens": -1}})
    assert result.data["error"]["reason"] == "malformed"
    with pytest.raises(UsageError):
        await asked({"job": {"prompts": "a"}})


async def test_nobody_who_could_take_it_is_a_row_that_says_who_is_there():
    [result] = await asked({"job": {"prompt": "a"}}, providers=0)
    assert result.data["error"]["reason"] == "no_provider"
    assert "0 providers heard of" in result.data["error"]["message"]
    assert result.data["most_msat"] == 0


async def test_pieces_come_while_it_is_made():
    class Client:
        settings = SwarmSettings()

        async def caught_up(self, timeout):
            return True

        async def single(self, spec, *, reservation, partial):
            assert spec.stream
            for text in ("a", "a b"):
                partial(text)
                await asyncio.sleep(0.01)
            raise UnreachableError("gone")

    heard = []
    with pytest.raises(UnreachableError):
        async for answer in ask_one(Client(), Relays(), CustomerSection(), {"job": {"prompt": "q"}, "stream": True}):
            heard.append(answer)  # noqa: PERF401 - it ends with an error
    assert heard == [Event({"text": "a"}), Event({"text": "a b"})]
