"""A benchmark's relay: `pylon relay` in a process of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pylon.bench.part import Calls, Settings, serve
from pylon.collect import keep_for_good
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer


@asynccontextmanager
async def relay(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """`database` is a path, `connections` how many there may be."""
    limits = RelayLimits(connections=settings["connections"])
    async with RelayServer(Path(settings["database"]), limits=limits) as server:

        async def settle() -> dict[str, object]:
            keep_for_good()
            return {}

        yield {"url": server.url}, {"settle": settle}


if __name__ == "__main__":
    serve(relay)
