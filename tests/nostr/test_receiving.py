"""Messages reach whoever takes them: whole, in order, each once, and no faster than they are taken."""

import asyncio
from collections.abc import Awaitable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.typing import BytesLike

from pylon.nostr.websocket.framing import _FRAMES_A_TURN, text_frame
from pylon.nostr.websocket.receiving import MAX_UNREAD_BYTES, Take
from pylon.nostr.websocket.sockets import ClientSocket, ServerSocket
from tests.waiting import until

QUEUE = 4


class Taker:
    """What came, and how it ended. Each message has to be let through while `slow`."""

    def __init__(self, *, slow: bool = False) -> None:
        self.got: list[tuple[bytes, bool]] = []
        self.slow = slow
        self.let = asyncio.Semaphore(0)
        self.begin = asyncio.Event()
        self.ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.socket: ServerSocket | None = None

    def take(self, data: BytesLike, is_text: bool) -> Awaitable[None] | None:
        if self.slow:
            return self._later(data, is_text)
        self.got.append((bytes(data), is_text))
        return None

    async def _later(self, data: BytesLike, is_text: bool) -> None:
        await self.let.acquire()
        self.got.append((bytes(data), is_text))

    async def serve(self, socket: ServerSocket, take: Take | None = None) -> None:
        self.socket = socket
        await self.begin.wait()
        self.task = asyncio.create_task(socket.deliver_to(take or self.take))
        await asyncio.wait({self.task})
        error = asyncio.CancelledError() if self.task.cancelled() else self.task.exception()
        self.ended.set_result(error)
        if not isinstance(error, ConnectionClosed):
            raise error

    @property
    def texts(self) -> list[bytes]:
        return [data for data, _ in self.got]


@asynccontextmanager
async def talking(taker: Taker, take: Take | None = None, *, begin: bool = True, **settings: object):
    """A client of the library's own, and at the other end `taker`."""
    if begin:
        taker.begin.set()

    async def handler(socket: ServerSocket) -> None:
        await taker.serve(socket, take)

    async with serve(
        handler, "127.0.0.1", 0, create_connection=ServerSocket, compression=None, max_queue=QUEUE, **settings
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as client:
            yield client


async def test_messages_arrive_in_order_and_text_is_told_from_binary():
    taker = Taker()
    async with talking(taker) as client:
        for number in range(50):
            await client.send(str(number))
        await client.send(b"\xff")
        await until(lambda: len(taker.got) == 51)
        assert taker.got == [(str(n).encode(), True) for n in range(50)] + [(b"\xff", False)]


async def test_a_message_in_fragments_arrives_whole_with_a_ping_between_them():
    taker = Taker()

    async def parts():
        yield "a"
        await (await client.ping())
        yield ""
        yield "b" * 1_000

    async with talking(taker) as client:
        await client.send(parts())
        await client.send([b"\x00", b"\x01"])
        await client.send("next")
        await until(lambda: len(taker.got) == 3)
        assert taker.got == [(b"a" + b"b" * 1_000, True), (b"\x00\x01", False), (b"next", True)]


async def test_fragments_that_are_too_much_together_end_the_connection():
    taker = Taker()
    async with talking(taker, max_size=1_000) as client:
        await client.send(["x" * 400] * 2)
        with pytest.raises(ConnectionClosedError):
            await client.send(["x" * 400] * 3)
            await client.recv()
        assert isinstance(await taker.ended, ConnectionClosedError)
        assert taker.texts == [b"x" * 800]
        assert client.close_code == 1009


async def test_what_comes_before_anybody_takes_it_is_kept():
    taker = Taker()
    async with talking(taker, begin=False) as client:
        for number in range(3):
            await client.send(str(number))
        await (await client.ping())
        taker.begin.set()
        await client.send("3")
        await until(lambda: len(taker.got) == 4)
        assert taker.texts == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("begin", [True, False], ids=["taken slowly", "not taken yet"])
async def test_without_room_the_socket_is_not_read_and_nothing_is_lost(begin):
    taker = Taker(slow=True)
    many, text = 400, "x" * 100_000
    async with talking(taker, begin=begin, ping_interval=None) as client:
        sending = asyncio.create_task(_send(client, many, text))
        # The system's buffers take some; then the sender has to wait.
        await until(lambda: client.transport.get_write_buffer_size() > 0)
        await asyncio.sleep(0.1)
        assert not sending.done()
        assert not taker.got
        assert taker.socket is not None
        # One read may bring a few more than the limit.
        assert len(taker.socket._kept) <= QUEUE + 4
        taker.begin.set()
        for _ in range(many):
            taker.let.release()
        await sending
        await until(lambda: len(taker.got) == many)
        assert [int(data.partition(b":")[0]) for data in taker.texts] == list(range(many))


async def _send(client, many: int, text: str) -> None:
    for number in range(many):
        await client.send(f"{number}:{text}")


async def test_a_taker_that_is_slow_now_and_then_gets_all_in_order():
    taker = Taker()

    async def rest(data: BytesLike, is_text: bool) -> None:
        await asyncio.sleep(0)
        taker.take(data, is_text)

    def take(data: BytesLike, is_text: bool) -> Awaitable[None] | None:
        return rest(data, is_text) if int(bytes(data)) % 3 == 0 else taker.take(data, is_text)

    async with talking(taker, take) as client:
        for number in range(300):
            await client.send(str(number))
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: len(taker.got) == 300)
        assert taker.texts == [str(n).encode() for n in range(300)]


async def test_what_came_before_the_end_is_taken_before_the_end_is_told():
    taker = Taker(slow=True)
    async with talking(taker) as client:
        for number in range(3):
            await client.send(str(number))
        closing = asyncio.create_task(client.close())
        await until(lambda: taker.socket is not None and taker.socket._lost)
        assert not taker.ended.done()
        for _ in range(3):
            taker.let.release()
        assert isinstance(await taker.ended, ConnectionClosedOK)
        assert taker.texts == [b"0", b"1", b"2"]
        await closing


async def test_a_taker_without_room_is_not_given_the_rest_of_a_read():
    taker, many = Taker(slow=True), 500
    async with talking(taker, ping_interval=None) as client:
        # In one write, and so in one read.
        client.transport.write(b"".join(text_frame(str(number).encode(), masked=True) for number in range(many)))
        await until(lambda: taker.socket is not None and len(taker.socket._holds_back) == 2)
        await asyncio.sleep(0.05)
        assert taker.socket is not None
        assert len(taker.socket._kept) <= QUEUE + _FRAMES_A_TURN
        for _ in range(many):
            taker.let.release()
        await until(lambda: len(taker.got) == many)
        assert taker.texts == [str(number).encode() for number in range(many)]
        await client.send("after all of them")
        taker.let.release()
        await until(lambda: len(taker.got) == many + 1)


@pytest.mark.parametrize("begin", [True, False], ids=["at once", "from what was kept"])
async def test_what_a_taker_raises_is_raised_where_somebody_waits_and_no_more_is_taken(begin):
    taker = Taker()

    def take(data: BytesLike, is_text: bool) -> None:
        taker.take(data, is_text)
        raise LookupError("a fault")

    async with talking(taker, take, begin=begin) as client:
        await client.send("one")
        await client.send("two")
        await (await client.ping())
        taker.begin.set()
        assert isinstance(await taker.ended, LookupError)
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        assert client.close_code == 1011
        assert taker.texts == [b"one"]


async def test_a_taker_that_leaves_while_the_socket_is_not_read_lets_the_peer_say_goodbye():
    taker = Taker(slow=True)
    async with talking(taker) as client:
        for number in range(QUEUE * 5):
            await client.send(str(number))
        await until(lambda: taker.socket is not None and taker.socket._holds_back)
        assert taker.task is not None
        taker.task.cancel()
        async with asyncio.timeout(5):
            await client.wait_closed()
        assert client.close_code == 1011


async def test_both_ends_understand_each_other():
    messages = [f"{number}" * 3_000 for number in range(200)]
    got: list[bytes] = []
    enough = asyncio.Event()

    async def echo(socket: ServerSocket) -> None:
        await socket.deliver_to(lambda data, is_text: socket.send(data, text=is_text))

    def take(data: BytesLike, is_text: bool) -> None:
        got.append(bytes(data))
        if len(got) == len(messages):
            enough.set()

    async with serve(echo, "127.0.0.1", 0, create_connection=ServerSocket) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", create_connection=ClientSocket) as socket:
            taking = asyncio.create_task(socket.deliver_to(take))
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(socket.send(message))
                await enough.wait()
        with pytest.raises(ConnectionClosedOK):
            await taking
        assert got == [message.encode() for message in messages]
        assert socket.close_code == 1000


async def test_a_peer_that_pings_and_reads_nothing_is_not_read_from_until_it_reads():
    taker = Taker()
    async with talking(taker) as client:
        client.transport.pause_reading()
        ping = bytes((0x89, 0x80 | 125)) + bytes(4) + b"p" * 125
        # Far more than the system keeps on its way, until nothing goes any more.
        for _ in range(2_000):
            client.transport.write(ping * 120)
            patience = asyncio.get_running_loop().time() + 0.5
            while (left := client.transport.get_write_buffer_size()) and asyncio.get_running_loop().time() < patience:
                await asyncio.sleep(0)
            if left:
                break
        assert taker.socket is not None
        assert taker.socket.transport.get_write_buffer_size() < 2 * MAX_UNREAD_BYTES
        client.transport.resume_reading()
        await client.send("after all of them")
        await until(lambda: taker.got, within_s=60)
    assert taker.texts == [b"after all of them"]
