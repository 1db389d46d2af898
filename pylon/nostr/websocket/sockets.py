"""The websockets library's connections, with `DirectDelivery` of messages and write coalescing (`Cork`)."""

import asyncio
from typing import cast

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from pylon.nostr.websocket.corking import Cork
from pylon.nostr.websocket.receiving import DirectDelivery


class ClientSocket(DirectDelivery, ClientConnection):
    """A client's end of a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Put a `Cork` before the transport."""
        super().connection_made(_corked(transport))


class ServerSocket(DirectDelivery, ServerConnection):
    """A server's end of a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Put a `Cork` before the transport."""
        super().connection_made(_corked(transport))


def _corked(transport: asyncio.BaseTransport) -> asyncio.Transport:
    return cast("asyncio.Transport", Cork(cast("asyncio.Transport", transport)))
