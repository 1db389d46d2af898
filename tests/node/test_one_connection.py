"""All calls of a program go over one connection: none is lost in a crowd, and none holds up or ends the others."""

import asyncio
import errno
import signal
import socket
import sys
from contextlib import AsyncExitStack, aclosing

import orjson
import pytest

from pylon.api import NodeSwarmClient
from pylon.errors import NodeSilentError, UnreachableError, UsageError
from pylon.node import identity
from pylon.node.calls import channel as channels
from pylon.node.calls import client, long_lists, numbered, server
from pylon.node.calls.channel import WINDOW, Channel
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import Event, Result, result_of
from pylon.node.calls.server import ControlServer
from pylon.node.home import Home, socket_path

JOBS = [{"prompt": f"question {number} " + "x" * 1_000} for number in range(3_000)]


class Methods:
    def __init__(self):
        self.under_way = self.cancelled = self.told = 0
        self.go = asyncio.Event()
        self.asked = []

    async def ping(self, params):
        yield Result({"serving": True})

    async def providers(self, params):
        yield Result({"providers": [params["model"]]})

    async def wait(self, params):
        self.under_way += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        yield Result({"number": params["number"]})

    async def tell(self, params):
        for number in range(params["times"]):
            yield Event({"number": number})
            self.told += 1
        yield Result({})

    async def map(self, params):
        self.asked.append(params)
        yield Result({"outcomes": [{"index": n, "text": "x" * 1_000} for n in range(len(params["jobs"]))]})


class Served:
    """A server at `path`, behind which next to nobody may wait."""

    def __init__(self, path):
        self.path = path
        self.methods = Methods()
        names = ("ping", "providers", "wait", "tell", "map")
        self.server = ControlServer(path, {name: getattr(self.methods, name) for name in names})

    @property
    def connections(self):
        return len(self.server._connections)

    async def until(self, met):
        while not met():
            await asyncio.sleep(0.01)


@pytest.fixture
async def served(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_BACKLOG", 1)
    made = Served(socket_path(tmp_path / "pylon.sock"))
    await made.server.start()
    async with asyncio.timeout(60):
        yield made
    await made.server.close()


async def test_a_thousand_calls_at_once_are_one_connection_and_one_that_is_cancelled_ends_alone(served):
    async with Channel(served.path) as node:
        calls = [asyncio.create_task(result_of(node, "wait", {"number": n})) for n in range(1_000)]
        await served.until(lambda: served.methods.under_way == 1_000)
        assert served.connections == 1
        calls.pop(500).cancel()
        await served.until(lambda: served.methods.cancelled)
        served.methods.go.set()
        numbers = [result["number"] for result in await asyncio.gather(*calls)]
    assert numbers == [*range(500), *range(501, 1_000)] and served.methods.cancelled == 1


async def test_calls_that_come_before_there_is_a_connection_share_the_one_that_is_made(served):
    async with AsyncExitStack() as stack:
        node = Channel(served.path)
        stack.push_async_exit(node)
        served.methods.go.set()
        assert len(await asyncio.gather(*(result_of(node, "wait", {"number": n}) for n in range(1_000)))) == 1_000
        assert served.connections == 1


async def test_a_client_of_a_home_makes_a_thousand_calls_at_once_over_one_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_BACKLOG", 1)
    home = Home(tmp_path)
    home.create()
    identity.create(home.identity_file)
    there = Served(home.socket)
    await there.server.start()
    most = 0

    async def provider(swarm, number):
        nonlocal most
        [model] = await swarm.providers(model=str(number))
        most = max(most, there.connections)
        return model

    async with NodeSwarmClient(tmp_path) as swarm:
        models = await asyncio.gather(*(provider(swarm, number) for number in range(1_000)))
    assert models == [str(number) for number in range(1_000)] and most == 1
    await there.server.close()


async def test_single_calls_wait_for_their_turn_where_the_backlog_is_full(served, monkeypatch):
    monkeypatch.setattr(client, "UNCLEAR_S", 30.0)
    served.methods.go.set()
    node = RemoteNode(served.path)
    results = await asyncio.gather(*(result_of(node, "wait", {"number": n}) for n in range(300)))
    assert [result["number"] for result in results] == list(range(300))


NODE = """
import asyncio, sys
from pathlib import Path
from pylon.node.calls.protocol import Event
from pylon.node.calls.server import ControlServer

async def wait(params):
    yield Event({"started": True})
    await asyncio.sleep(3600)

async def serve():
    await ControlServer(Path(sys.argv[1]), {"wait": wait}).start()
    print(flush=True)
    await asyncio.sleep(3600)

asyncio.run(serve())
"""


async def test_a_node_that_is_killed_ends_each_call_with_its_reason_and_the_next_call_finds_the_one_that_comes_after(
    tmp_path,
):
    path = socket_path(tmp_path / "pylon.sock")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", NODE, path, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        await process.stdout.readline()
        node = await stack.enter_async_context(Channel(path))
        calls = [node.call("wait") for _ in range(100)]
        for call in calls:
            assert await anext(call) == Event({"started": True})
        process.send_signal(signal.SIGKILL)
        await process.wait()
        ends = await asyncio.gather(*map(anext, calls), return_exceptions=True)
        assert {type(end) for end in ends} == {UnreachableError}
        assert {str(end) for end in ends} == {"the node ended during the call"} and ends[0].hint
        assert not node.connected
        gone = await asyncio.gather(*(result_of(node, "wait") for _ in range(100)), return_exceptions=True)
        assert {str(end) for end in gone} == {"no node is running here"}
        after = Served(path)
        await after.server.start()
        assert await result_of(node, "ping") == {"serving": True}
        await after.server.close()


async def test_a_call_that_is_left_unread_waits_at_the_node_and_the_others_go_on(served):
    async with Channel(served.path) as node:
        slow = node.call("tell", {"times": 1_000})
        await anext(slow)
        for number in range(50):
            assert (await result_of(node, "providers", {"model": number}))["providers"] == [number]
        # None of what it was told is read: its window is shut.
        assert served.methods.told == WINDOW
        assert [answer.data async for answer in slow][:-1] == [{"number": n} for n in range(1, 1_000)]


async def test_a_long_list_goes_over_the_connection_of_the_others_who_are_answered_meanwhile(served, monkeypatch):
    # Its outcomes are more lines than a window has.
    monkeypatch.setattr("pylon.node.calls.long_lists._PIECE_BYTES", 10 * 1_000)
    assert len(JOBS) / 10 > 2 * WINDOW
    async with Channel(served.path) as node:
        maps = [asyncio.create_task(result_of(node, "map", {"jobs": JOBS, "timeout_s": n})) for n in range(3)]
        between = 0
        while not served.methods.asked:
            await result_of(node, "ping")
            between += 1
        for result in await asyncio.gather(*maps):
            assert [row["index"] for row in result["outcomes"]] == list(range(len(JOBS)))
        assert between > 3 and served.connections == 1
    assert sorted(params["timeout_s"] for params in served.methods.asked) == [0, 1, 2]
    assert all(params["jobs"] == JOBS for params in served.methods.asked)


async def test_a_long_list_that_is_left_halfway_is_not_asked_and_the_connection_goes_on(served, monkeypatch):
    put_to, halfway = long_lists.put_to, asyncio.Event()

    def put_to_until_halfway(writer):
        put = put_to(writer)

        async def put_one(line):
            await put(line)
            if b'"rows"' in line:
                halfway.set()
                await asyncio.Event().wait()

        return put_one

    monkeypatch.setattr(long_lists, "put_to", put_to_until_halfway)
    async with Channel(served.path) as node:
        left = asyncio.create_task(result_of(node, "map", {"jobs": JOBS}))
        await halfway.wait()
        await served.until(lambda: served.server.busy)
        left.cancel()
        await asyncio.wait({left})
        await served.server.idle.wait()
        assert await result_of(node, "ping") == {"serving": True}
    assert served.methods.asked == []


async def test_calls_beyond_those_that_a_node_takes_at_once_wait_for_room(served, monkeypatch):
    monkeypatch.setattr(channels, "MOST_CALLS", 5)
    async with Channel(served.path) as node:
        calls = [asyncio.create_task(result_of(node, "wait", {"number": n})) for n in range(12)]
        await served.until(lambda: served.methods.under_way == 5)
        served.methods.go.set()
        assert [result["number"] for result in await asyncio.gather(*calls)] == list(range(12))


async def test_calls_of_a_channel_that_is_closed_are_told_so(served):
    async with Channel(served.path) as node:
        started = node.call("tell", {"times": 1_000})
        await anext(started)
    with pytest.raises(UnreachableError, match="closed in this program"):
        [answer async for answer in started]
    with pytest.raises(UnreachableError, match="closed in this program"):
        await result_of(node, "ping")


async def spoken(path, *lines, answers):
    """The first answers to these lines, said by hand."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"\n".join(lines) + b"\n")
    said = [orjson.loads(await reader.readline()) for _ in range(answers)]
    writer.close()
    return said


async def test_a_call_too_many_is_refused_alone(served, monkeypatch):
    monkeypatch.setattr(numbered, "MOST_CALLS", 2)
    waiting = [b'{"id": %d, "call": "wait", "params": {"number": 1}}' % number for number in range(3)]
    [refused] = await spoken(served.path, *waiting, answers=1)
    assert (refused["id"], refused["error"]["type"]) == (2, UsageError.__name__)
    assert served.methods.under_way == 2


@pytest.mark.parametrize("window", [b"0", b"-1", b'"all"', b"1.5"])
async def test_a_window_is_a_number_of_lines(served, window):
    [refused] = await spoken(served.path, b'{"id": 1, "call": "ping", "window": ' + window + b"}", answers=1)
    assert "window must be a whole number" in refused["error"]["message"]


async def test_lists_of_numbered_calls_may_mix_and_one_that_is_wrong_ends_its_own_call(served, monkeypatch):
    monkeypatch.setattr("pylon.node.calls.long_lists.MOST_JOBS", 2)
    begin = [b'{"id": %d, "call": "map", "params": {}, "follows": "jobs"}' % number for number in (1, 2)]
    rows = [b'{"id": 1, "rows": [{}, {}]}', b'{"id": 2, "rows": [{}, {}, {}]}', b'{"id": 2, "rows": []}']
    said = await spoken(served.path, *begin, *rows, b'{"id": 1, "rows": []}', answers=2)
    answers = {each["id"]: each for each in said}
    assert len(answers[1]["result"]["outcomes"]) == 2
    assert "at most 2 jobs" in answers[2]["error"]["message"]


async def test_a_numbered_call_whose_list_stays_away_keeps_no_core_busy(served, monkeypatch):
    monkeypatch.setattr("pylon.node.calls.long_lists.SILENCE_S", 0.2)
    [told] = await spoken(served.path, b'{"id": 1, "call": "map", "follows": "jobs"}', answers=1)
    assert told["error"]["type"] == UsageError.__name__ and "no piece of this call's list" in told["error"]["message"]
    await served.server.idle.wait()


def left_behind(path):
    """The socket of a node that was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


@pytest.mark.parametrize("refuses_when_full", [False, True])
async def test_a_node_that_was_killed_is_told_of_soon(tmp_path, monkeypatch, refuses_when_full):
    monkeypatch.setattr(client, "REFUSES_WHEN_FULL", refuses_when_full)
    path = socket_path(tmp_path / "pylon.sock")
    left_behind(path)
    async with asyncio.timeout(5):
        with pytest.raises(UnreachableError, match="no node is running here"):
            await result_of(RemoteNode(path), "ping")


async def test_a_refusal_that_may_mean_a_full_backlog_is_not_believed_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "REFUSES_WHEN_FULL", True)
    monkeypatch.setattr(client, "UNCLEAR_S", 30.0)
    path = socket_path(tmp_path / "pylon.sock")
    left_behind(path)
    async with asyncio.timeout(20):
        asking = asyncio.create_task(result_of(RemoteNode(path), "ping"))
        await asyncio.sleep(0.1)
        there = Served(path)
        await there.server.start()
        assert await asking == {"serving": True}
    await there.server.close()


def test_how_long_a_refusal_is_doubted_depends_on_what_it_says(monkeypatch):
    full, refused, missing = BlockingIOError(errno.EAGAIN, ""), ConnectionRefusedError(), FileNotFoundError()
    for system, doubts in ((False, 0.0), (True, client.UNCLEAR_S)):
        monkeypatch.setattr(client, "REFUSES_WHEN_FULL", system)
        assert [client._patience_s(each) for each in (full, refused, missing)] == [client.AT_ONCE_S, doubts, 0.0]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS says the same of a node that is gone")
async def test_a_node_that_accepts_nobody_is_stuck_and_not_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "AT_ONCE_S", 0.2)
    path = socket_path(tmp_path / "pylon.sock")
    with socket.socket(socket.AF_UNIX) as stuck, socket.socket(socket.AF_UNIX) as waiting:
        stuck.bind(str(path))
        stuck.listen(0)
        waiting.connect(str(path))
        with pytest.raises(NodeSilentError, match="does not answer") as caught:
            await result_of(RemoteNode(path), "map")
        assert "kill -9" in caught.value.hint


async def test_an_answer_to_a_call_made_alone_is_as_documented(served):
    reader, writer = await asyncio.open_unix_connection(served.path)
    writer.write(b'{"call": "tell", "params": {"times": 1}}\n')
    assert await reader.read() == b'{"event":{"number":0}}\n{"result":{}}\n'
    writer.close()
    node = RemoteNode(served.path)
    async with aclosing(node.call("tell", {"times": 2})) as answers:
        assert [answer async for answer in answers] == [Event({"number": 0}), Event({"number": 1}), Result({})]
