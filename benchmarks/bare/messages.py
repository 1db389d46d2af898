"""The cost of a message over one connection, as in the floor of `pylon bench fanout`, and over many, as in its maps.

    python -m benchmarks.bare.messages --json

Each message is echoed, both ends in this process, nothing else: as bare bytes over asyncio's transports, with the
library's protocol by callbacks (`benchmarks/bare/wire.py`), and through the library's own asyncio side.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial

from websockets.server import ServerProtocol
from websockets.typing import BytesLike

from benchmarks.bare.wire import Peer, client, connect
from pylon.bench.fanout import SPARE_FILES
from pylon.bench.floor import MESSAGES, message
from pylon.collect import collect_rarely
from pylon.host.open_files import allow_files

SIZE = 1_180
BACKLOG = 1_024
# Messages that are sent before the event loop handles what has come.
AT_ONCE = 8


class Count:
    """Counts messages, and is done when all have come."""

    def __init__(self, wanted: int) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._left = wanted

    def add(self, some: int) -> None:
        self._left -= some
        if not self._left:
            self.done.set_result(None)


class Bytes(asyncio.Protocol):
    """One end of a TCP connection: counts messages, or echoes them."""

    transport: asyncio.Transport

    def __init__(self, count: Count | None = None) -> None:
        self._count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._count is None:
            self.transport.write(data)
        else:
            self._count.add(len(data))


class Echo(Peer):
    """The server's end of a websocket."""

    def __init__(self) -> None:
        super().__init__(ServerProtocol())

    def received(self, data: BytesLike) -> None:
        self.send(bytes(data))


class Counting(Peer):
    """The client's end."""

    def __init__(self, url: str, count: Count) -> None:
        super().__init__(client(url))
        self._count = count

    def received(self, data: BytesLike) -> None:  # noqa: ARG002 - only that it came
        self._count.add(1)


async def _send(senders: list[Callable[[bytes], None]], count: Count) -> float:
    started = time.process_time()
    text = b"x" * SIZE
    for number in range(MESSAGES):
        senders[number % len(senders)](text)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    await count.done
    return (time.process_time() - started) / (2 * MESSAGES)


async def as_bytes(connections: int) -> float:
    """Seconds of a core for a message over plain TCP."""
    loop = asyncio.get_running_loop()
    count = Count(SIZE * MESSAGES)
    server = await loop.create_server(Bytes, "127.0.0.1", 0, backlog=BACKLOG)
    port = server.sockets[0].getsockname()[1]
    ends = [(await loop.create_connection(lambda: Bytes(count), "127.0.0.1", port))[1] for _ in range(connections)]
    cost = await _send([end.transport.write for end in ends], count)
    for end in ends:
        end.transport.close()
    server.close()
    return cost


async def by_callbacks(connections: int) -> float:
    """Seconds of a core for a websocket message, by the library's protocol without tasks and queues."""
    count = Count(MESSAGES)
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=BACKLOG)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ends = [await connect(Counting(url, count), url) for _ in range(connections)]
    cost = await _send([end.send for end in ends], count)
    for end in ends:
        end.close()
        await end.closed
    server.close()
    return cost


WAYS: dict[str, Callable[[int], Awaitable[float]]] = {
    "bytes": as_bytes,
    "callbacks": by_callbacks,
    "asyncio": partial(message, SIZE, time.process_time),
}


async def measure(connections: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Microseconds of a message, by way and number of connections, for each round."""
    allow_files(2 * connections + SPARE_FILES)
    found: dict[str, dict[str, list[float]]] = {way: {"1": [], str(connections): []} for way in WAYS}
    for _ in range(rounds):
        for way, cost in WAYS.items():
            for number in (1, connections):
                found[way][str(number)].append(round(1e6 * await cost(number), 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # As in the processes of the exchange.
    collect_rarely()
    found = asyncio.run(measure(options.connections, options.rounds))
    if options.json:
        print(json.dumps(found))
        return
    for way, costs in found.items():
        for number, each in costs.items():
            print(f"{way:10}{number:>6} connections: {statistics.median(each):6.1f} us a message")


if __name__ == "__main__":
    main()
