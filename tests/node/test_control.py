import asyncio
import errno
import os
import sqlite3
import stat
import sys

import pytest

from pylon import log
from pylon.errors import JobsFailedError, PylonError, UnreachableError, UsageError
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import Event, Result, result_of
from pylon.node.calls.server import ControlServer
from pylon.node.home import socket_path


class Methods:
    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def count(self, params):
        for number in range(params["to"]):
            yield Event({"number": number})
        yield Result({"counted": params["to"]})

    async def fail(self, params):
        raise JobsFailedError("two failed", hint="look again")
        yield

    async def crash(self, params):
        raise ZeroDivisionError("a detail of ours")
        yield

    async def unstored(self, params):
        connection = sqlite3.connect(":memory:")
        try:
            connection.execute("PRAGMA max_page_count = 1")
            connection.execute("CREATE TABLE a (b)")
            yield Result({})
        except sqlite3.Error as error:
            error.add_note("/where/pylon.db")
            raise
        finally:
            connection.close()

    async def unwritten(self, params):
        raise OSError(errno.ENOSPC, "No space left on device", "/where/live")
        yield

    async def forever(self, params):
        try:
            yield Event({"started": True})
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
async def served(tmp_path):
    methods = Methods()
    names = ("count", "fail", "crash", "unstored", "unwritten", "forever")
    server = ControlServer(socket_path(tmp_path / "pylon.sock"), {name: getattr(methods, name) for name in names})
    await server.start()
    yield RemoteNode(socket_path(tmp_path / "pylon.sock")), server, methods
    await server.close()


async def test_events_come_before_the_result(served):
    node, *_ = served
    answers = [answer async for answer in node.call("count", {"to": 3})]
    assert answers == [Event({"number": 0}), Event({"number": 1}), Event({"number": 2}), Result({"counted": 3})]


async def test_an_error_arrives_as_the_error_it_was(served):
    with pytest.raises(JobsFailedError, match="two failed") as caught:
        await result_of(served[0], "fail")
    assert caught.value.hint == "look again"


async def test_a_fault_of_the_node_tells_no_details_but_its_kind_and_where_more_of_it_stands(served):
    with pytest.raises(PylonError) as caught:
        await result_of(served[0], "crash")
    told = f"{caught.value} {caught.value.hint}"
    assert "ZeroDivisionError" in told and "pylon doctor" in told and "detail" not in told


async def test_a_node_counts_the_calls_that_it_failed_in_and_keeps_the_last_error_for_its_owner(served, tmp_path):
    node, server, _ = served
    for call in ("crash", "fail", "crash"):
        with pytest.raises(PylonError):
            await result_of(node, call)
    said = server.faults.status()
    assert (said["count"], said["last"]) == (2, "crash: ZeroDivisionError: a detail of ours")
    assert said["log"] == f"process {os.getpid()}"
    log.configure("error", file=tmp_path / "here.log", stderr=False)
    try:
        assert server.faults.status()["log"] == str(tmp_path / "here.log")
    finally:
        log.configure("warning")


@pytest.mark.parametrize(("call", "file"), [("unstored", "/where/pylon.db"), ("unwritten", "/where/live")])
async def test_a_full_disk_is_told_by_its_name(served, call, file):
    with pytest.raises(PylonError, match=file) as caught:
        await result_of(served[0], call)
    assert "Free some space" in caught.value.hint


@pytest.mark.parametrize("params", [b"[1]", b"3", b"[]", b'"x"'])
async def test_parameters_that_are_no_object_are_named_as_what_is_wrong(served, tmp_path, params):
    reader, writer = await asyncio.open_unix_connection(socket_path(tmp_path / "pylon.sock"))
    writer.write(b'{"call": "count", "params": ' + params + b"}\n")
    answer = await reader.readline()
    assert b"UsageError" in answer and b"must be an object" in answer
    writer.close()
    await writer.wait_closed()


async def test_an_unknown_call_is_an_error(served):
    with pytest.raises(UsageError, match="does not know"):
        await result_of(served[0], "nonsense")


async def test_hanging_up_cancels_the_call(served):
    node, server, methods = served
    call = node.call("forever")
    assert await anext(call) == Event({"started": True})
    assert server.busy == 1
    await call.aclose()
    await asyncio.wait_for(methods.cancelled.wait(), 10)
    await asyncio.wait_for(server.idle.wait(), 10)


async def test_closing_cuts_calls_off(served):
    node, server, _ = served
    call = node.call("forever")
    await anext(call)
    await server.close()
    with pytest.raises(UnreachableError):
        await anext(call)


async def test_nobody_listening_is_a_plain_error(tmp_path):
    with pytest.raises(UnreachableError) as caught:
        await result_of(RemoteNode(tmp_path / "none.sock"), "ping")
    assert "pylon start" in caught.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="macOS lets no more than 128 wait")
async def test_hundreds_of_calls_may_come_at_the_same_moment(served):
    node, *_ = served
    assert len(await asyncio.gather(*(result_of(node, "count", {"to": 1}) for _ in range(400)))) == 400


async def test_only_the_owner_may_open_the_socket(served, tmp_path):
    assert stat.S_IMODE(socket_path(tmp_path / "pylon.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE(socket_path(tmp_path / "pylon.sock").parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("line", [b"\n", b"{\n", b"[]\n", b'{"call": 1}\n', b'{"call": "count", "params": 3}\n'])
async def test_garbage_on_the_socket_is_answered_with_an_error(served, tmp_path, line):
    reader, writer = await asyncio.open_unix_connection(socket_path(tmp_path / "pylon.sock"))
    writer.write(line)
    assert b'"error"' in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_a_result_larger_than_a_pipe_arrives_whole(tmp_path):
    async def large(params):
        yield Result({"text": "x" * 5_000_000})

    server = ControlServer(socket_path(tmp_path / "pylon.sock"), {"large": large})
    await server.start()
    assert len((await result_of(RemoteNode(socket_path(tmp_path / "pylon.sock")), "large"))["text"]) == 5_000_000
    await server.close()
