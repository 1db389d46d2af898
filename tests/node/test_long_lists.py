"""Long lists over the control socket: whole on the other side, and nobody is held up by them."""

import asyncio
from itertools import chain

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import UsageError
from pylon.node.calls import long_lists
from pylon.node.calls.channel import Channel
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import Result, result_of
from pylon.node.calls.server import ControlServer
from pylon.node.home import socket_path
from tests.waiting import until

JOBS = [{"prompt": f"question {number} " + "x" * 1_000} for number in range(3_000)]


def sent(*lines: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=2**24)
    reader.feed_data(b"".join(lines))
    reader.feed_eof()
    return reader


class Methods:
    def __init__(self) -> None:
        self.asked: list[dict] = []

    async def map(self, params):
        self.asked.append(params)
        yield Result({"asked": len(params["jobs"]), "outcomes": [{"index": n} for n in range(len(params["jobs"]))]})

    async def providers(self, params):
        yield Result({"providers": [{"provider": "x" * 1_000}] * 3_000, "heard_of": 1})


@pytest.fixture
async def served(tmp_path):
    methods = Methods()
    served = {"map": methods.map, "providers": methods.providers}
    server = ControlServer(socket_path(tmp_path / "pylon.sock"), served)
    await server.start()
    yield socket_path(tmp_path / "pylon.sock"), server, methods
    await server.close()


async def spoken(path, *lines: bytes) -> list[dict]:
    """What is answered to these lines, said by hand."""
    reader, writer = await asyncio.open_unix_connection(path, limit=2**24)
    writer.write(b"\n".join(lines) + b"\n")
    answers = [orjson.loads(line) async for line in reader]
    writer.close()
    await writer.wait_closed()
    return answers


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=50), max_size=2), max_size=50), st.integers(1, 200)
)
def test_a_list_is_the_same_on_the_other_side_however_it_is_cut_up(rows, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_lists, "_PIECE_BYTES", size)

        async def there() -> list:
            return await long_lists.read(long_lists.pieces_from(sent(*long_lists._pieces(rows))))

        assert asyncio.run(there()) == rows


async def test_a_long_list_goes_and_comes_in_pieces_and_a_short_one_in_its_line(served):
    path, _, methods = served
    found = await result_of(RemoteNode(path), "map", {"jobs": JOBS, "timeout_s": 1})
    assert methods.asked == [{"timeout_s": 1, "jobs": JOBS}]
    assert (found["asked"], [row["index"] for row in found["outcomes"]]) == (3_000, list(range(3_000)))
    assert len(list(long_lists._pieces(JOBS))) > 10
    params = orjson.dumps({"jobs": JOBS[:200]})
    [whole] = await spoken(path, b'{"call": "map", "params": ' + params + b"}")
    assert len(whole["result"]["outcomes"]) == 200 and "follows" not in whole
    assert long_lists.without_long_list({"jobs": [1, 2]}, "jobs") == ({"jobs": [1, 2]}, None)


async def test_thousands_of_providers_come_in_pieces_to_a_client_that_reads_them(served):
    path, _, _ = served
    [whole] = await spoken(path, b'{"call": "providers"}')
    line, *pieces = await spoken(path, b'{"call": "providers", "pieces": true}')
    assert line == {"result": {"heard_of": 1}, "follows": "providers"}
    assert len(pieces) > 10 and list(chain.from_iterable(pieces)) == whole["result"]["providers"]
    async with Channel(path) as channel:
        for node in (RemoteNode(path), channel):
            assert await result_of(node, "providers") == whole["result"]


async def test_a_call_whose_list_breaks_off_is_never_made(served):
    path, server, methods = served
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"call": "map", "params": {}, "follows": "jobs"}\n[{"prompt": "a"}]\n')
    await writer.drain()
    await until(lambda: server.busy)
    writer.close()
    await asyncio.wait_for(server.idle.wait(), 20)
    assert not methods.asked


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((b'{"call": "map", "follows": "jobs"}', b"{}"), "the last of them must be empty"),
        ((b'{"call": "map", "follows": "jobs"}', b"[{}", b"[]"), "the last of them must be empty"),
        ((b'{"call": "map", "follows": "jobs", "params": 3}', b"[]"), "an object of params"),
        ((b'{"call": "map", "follows": "jobs"}', b'["' + b"x" * 2_000 + b'"]', b"[]"), "a call may be at most 0 MiB"),
    ],
    ids=["an object", "no JSON", "no params", "too large"],
)
async def test_what_is_no_list_is_told_of_and_the_call_is_not_made(served, monkeypatch, lines, says):
    monkeypatch.setattr(long_lists, "MAX_CALL_BYTES", 1_000)
    path, _, methods = served
    [answer] = await spoken(path, *lines)
    assert answer["error"]["type"] == UsageError.__name__ and says in answer["error"]["message"]
    assert not methods.asked


async def test_whoever_else_is_served_has_a_turn_for_every_piece_of_a_list_that_is_there_already():
    pieces = list(long_lists._pieces(JOBS))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    serving = asyncio.create_task(others())
    assert len(await long_lists.read(long_lists.pieces_from(sent(*pieces)))) == len(JOBS)
    serving.cancel()
    assert turns >= len(pieces) - 2


async def test_a_node_ends_beside_a_client_that_reads_nothing(served):
    path, server, _ = served
    reader, writer = await asyncio.open_unix_connection(path)
    rows = orjson.dumps([{"prompt": "x"}] * 100_000)
    writer.write(b'{"call": "map", "follows": "jobs"}\n' + rows + b"\n[]\n")
    await writer.drain()
    async with asyncio.timeout(20):
        await until(lambda: server.busy)
        await asyncio.sleep(0.5)
        await server.close()
    writer.close()
    del reader


async def test_whoever_says_nothing_is_hung_up_on_so_that_a_core_can_end(served, monkeypatch):
    monkeypatch.setattr(long_lists, "SILENCE_S", 0.2)
    path, server, methods = served
    silent = await asyncio.open_unix_connection(path)
    half = await asyncio.open_unix_connection(path)
    half[1].write(b'{"call": "map", "follows": "jobs"}\n[{"prompt": "a"}]\n')
    async with asyncio.timeout(10):
        assert await silent[0].read() == await half[0].read() == b""
        await server.idle.wait()
    assert methods.asked == []
    for _, writer in (silent, half):
        writer.close()


async def test_what_is_sent_behind_a_call_is_not_kept(tmp_path):
    read = asyncio.Event()

    async def wait(params):
        await read.wait()
        yield Result({"done": True})

    server = ControlServer(socket_path(tmp_path / "pylon.sock"), {"wait": wait})
    await server.start()
    reader, writer = await asyncio.open_unix_connection(socket_path(tmp_path / "pylon.sock"))
    writer.write(b'{"call": "wait"}\n')
    async with asyncio.timeout(20):
        for _ in range(64):
            writer.write(b"x" * 2**20)
            # It is read: nothing piles up on this side.
            await writer.drain()
        read.set()
        assert orjson.loads(await reader.readline()) == {"result": {"done": True}}
    writer.close()
    await server.close()


async def test_a_list_that_is_too_long_is_said_so_on_both_sides(served, monkeypatch):
    path, _, methods = served
    monkeypatch.setattr(long_lists, "MAX_CALL_BYTES", 1_000_000)
    with pytest.raises(UsageError, match="a call may be"):
        await result_of(RemoteNode(path), "map", {"jobs": JOBS})
    monkeypatch.setattr(long_lists, "MOST_JOBS", 10)
    [answer] = await spoken(path, b'{"call": "map", "follows": "jobs"}', orjson.dumps([{}] * 11), b"[]")
    assert "at most 10 jobs" in answer["error"]["message"]
    assert methods.asked == []


async def test_a_line_that_holds_up_everybody_is_not_read_and_is_never_sent(served, monkeypatch):
    path, _, methods = served
    long = orjson.dumps({"prompt": "x" * long_lists.MAX_LINE_BYTES})
    numbered = b'{"id": 1, "call": "map", "params": {"jobs": []}}'
    for before in ((), (b'{"call": "map", "follows": "jobs"}',), (numbered,)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"\n".join((*before, b"[" + long + b"]")))
        answers = [orjson.loads(line) async for line in reader]
        assert "a line of a call may be at most 8 MiB" in answers[-1]["error"]["message"]
        writer.close()
    made = len(methods.asked)
    for jobs in ([orjson.loads(long)], [*JOBS, orjson.loads(long)]):
        with pytest.raises(UsageError, match="a line of a call"):
            await result_of(RemoteNode(path), "map", {"jobs": jobs})
    async with Channel(path) as channel:
        for jobs in ([orjson.loads(long)], [*JOBS, orjson.loads(long)]):
            with pytest.raises(UsageError, match="a line of a call"):
                await result_of(channel, "map", {"jobs": jobs})
        assert (await result_of(channel, "map", {"jobs": []}))["asked"] == 0
    assert len(methods.asked) == made + 1


async def test_a_few_jobs_that_are_large_go_in_pieces_too(served):
    path, _, methods = served
    few = [{"prompt": str(number) * 2**20} for number in range(9)]
    assert (await result_of(RemoteNode(path), "map", {"jobs": few}))["asked"] == 9
    assert methods.asked == [{"jobs": few}]


@pytest.mark.parametrize("name", [b"null", b"{}", b"7"])
async def test_a_list_is_named_by_text(served, name):
    path, _, methods = served
    [answer] = await spoken(path, b'{"call": "map", "params": null, "follows": ' + name + b"}", b"[]")
    assert answer["error"]["type"] == "UsageError" and methods.asked == []
    [answer] = await spoken(path, b'{"call": "map", "params": null, "follows": "jobs"}', b"[{}]", b"[]")
    assert answer["result"]["asked"] == 1
