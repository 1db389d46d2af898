"""Many calls over one connection of the control socket."""

import asyncio
from contextlib import aclosing

import pytest

from pylon.errors import JobsFailedError, UnreachableError
from pylon.node.calls.channel import Channel
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import Event, Result, result_of
from pylon.node.calls.server import ControlServer
from pylon.node.home import socket_path
from tests.waiting import until


class Methods:
    def __init__(self):
        self.cancelled = asyncio.Event()
        self.under_way = 0
        self.go = asyncio.Event()
        self.noted_once = False

    async def count(self, params):
        for number in range(params["to"]):
            yield Event({"number": number})
            await asyncio.sleep(0)
        yield Result({"counted": params["to"]})

    async def fail(self, params):
        raise JobsFailedError("two failed", hint="look again")
        yield

    async def all_at_once(self, params):
        self.under_way += 1
        await self.go.wait()
        yield Result({"under_way": self.under_way})

    async def forever(self, params):
        try:
            yield Event({"started": True})
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def noted(self, params):
        self.noted_once = True
        await asyncio.sleep(3600)
        yield Result({})


@pytest.fixture
async def served(tmp_path):
    methods = Methods()
    names = ("count", "fail", "all_at_once", "forever", "noted")
    server = ControlServer(socket_path(tmp_path / "pylon.sock"), {name: getattr(methods, name) for name in names})
    await server.start()
    async with asyncio.timeout(30):
        yield socket_path(tmp_path / "pylon.sock"), server, methods
    await server.close()


async def events_of(node, to):
    async with aclosing(node.call("count", {"to": to})) as answers:
        return [answer.data async for answer in answers]


async def test_calls_of_one_connection_get_their_own_answers(served):
    path, _, _ = served
    async with Channel(path) as channel:
        found = await asyncio.gather(*(events_of(channel, to) for to in range(20)))
    for to, said in enumerate(found):
        assert said == [*({"number": n} for n in range(to)), {"counted": to}]


async def test_a_thousand_calls_are_under_way_at_once(served):
    path, _, methods = served
    async with Channel(path) as channel:
        calls = [asyncio.create_task(result_of(channel, "all_at_once")) for _ in range(1_000)]
        await until(lambda: methods.under_way >= 1_000)
        methods.go.set()
        assert {result["under_way"] for result in await asyncio.gather(*calls)} == {1_000}


async def test_an_error_is_that_call_s_alone(served):
    path, _, _ = served
    async with Channel(path) as channel:
        with pytest.raises(JobsFailedError) as caught:
            await result_of(channel, "fail")
        assert caught.value.hint == "look again"
        assert await result_of(channel, "count", {"to": 0}) == {"counted": 0}


async def test_a_call_that_is_left_is_cancelled_and_the_others_go_on(served):
    path, _, methods = served
    async with Channel(path) as channel:
        left = channel.call("forever")
        assert await anext(left) == Event({"started": True})
        other = asyncio.create_task(result_of(channel, "all_at_once"))
        await until(lambda: methods.under_way)
        await left.aclose()
        await methods.cancelled.wait()
        methods.go.set()
        assert (await other)["under_way"] == 1


async def test_hanging_up_cancels_all_calls(served):
    path, server, methods = served
    async with Channel(path) as channel:
        started = channel.call("forever")
        await anext(started)
    await methods.cancelled.wait()
    await started.aclose()
    await server.idle.wait()


async def test_a_connection_without_a_call_keeps_no_core_busy(served):
    path, server, _ = served
    async with Channel(path) as channel:
        await result_of(channel, "count", {"to": 1})
        await server.idle.wait()
        assert server.busy == 0
        started = channel.call("forever")
        await anext(started)
        assert server.busy == 1
        await started.aclose()
        await server.idle.wait()
    assert await result_of(RemoteNode(path), "count", {"to": 1}) == {"counted": 1}


async def test_calls_of_a_node_that_ends_are_told(served):
    path, server, _ = served
    async with Channel(path) as channel:
        started = channel.call("forever")
        await anext(started)
        await server.close()
        with pytest.raises(UnreachableError):
            await anext(started)
        assert not channel.connected
        with pytest.raises(UnreachableError):
            await result_of(channel, "count", {"to": 1})


async def test_a_line_that_is_no_call_ends_the_connection(served):
    path, server, methods = served
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"id": 1, "call": "forever"}\n')
    assert await reader.readline() == b'{"id":1,"event":{"started":true}}\n'
    writer.write(b"[]\n")
    assert await reader.read() == b""
    assert methods.cancelled.is_set()
    writer.close()
    await server.idle.wait()


async def test_nobody_who_listens_is_told_apart_from_an_end(tmp_path):
    with pytest.raises(UnreachableError, match="no node is running here"):
        async with Channel(tmp_path / "none.sock"):
            pass


async def test_a_call_that_is_cancelled_in_the_same_breath_has_begun_all_the_same(served):
    path, server, methods = served
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"id": 1, "call": "noted"}\n{"cancel": 1}\n{"id": 2, "call": "count", "params": {"to": 0}}\n')
    assert b'"counted":0' in await reader.readline()
    assert methods.noted_once
    await until(lambda: not server.busy)
    writer.close()
