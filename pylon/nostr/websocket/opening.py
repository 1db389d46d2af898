"""A socket to a relay: secured as its address says, and to where `dial` connects where not every address may be."""

from typing import Any, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

from pylon.nostr.websocket.dialing import Dial
from pylon.nostr.websocket.sockets import ClientSocket
from pylon.nostr.websocket.tls import context_for

MAX_FRAME_BYTES = 2 * 1024 * 1024


async def open_socket(url: str, dial: Dial | None) -> ClientSocket:
    """Connects. Raises `OSError`, `TimeoutError` or `WebSocketException`."""
    dialled = {} if dial is None else await _dialled(url, dial)
    try:
        # Content is ciphertext, which deflate cannot shorten by more than base64 lengthened it, and its window costs
        # 60 KiB a connection.
        socket = await connect(
            url,
            ssl=context_for(url.startswith("wss:")),
            create_connection=ClientSocket,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            ping_timeout=60,
            close_timeout=2,
            **dialled,
        )
    except ValueError as error:
        # The relay sends us elsewhere, to what is no address or, where we dial, to anywhere at all.
        raise ConnectionError(str(error)) from error
    return cast("ClientSocket", socket)


async def _dialled(url: str, dial: Dial) -> dict[str, Any]:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "wss" else 80
    # With a socket of ours no proxy is asked, nor is a redirect to another host followed.
    return {"sock": await dial(parts.hostname or "", parts.port or default)}
