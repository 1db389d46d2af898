"""The relay of a benchmark: the server of `pylon relay`, in a process of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pylon.bench.process import Calls, Settings, serve
from pylon.collect import keep_for_good
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer


@asynccontextmanager
async def relay(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """Opens the relay. Settings: `database` is the path of its store, `connections` the most it takes."""
    limits = RelayLimits(connections=settings["connections"])
    async with RelayServer(Path(settings["database"]), limits=limits) as server:

        async def settle() -> dict[str, object]:
            keep_for_good()
            return {}

        yield {"url": server.url}, {"settle": settle}


if __name__ == "__main__":
    serve(relay)
