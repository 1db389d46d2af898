"""Opens a websocket to a relay: with TLS for `wss:`, and by `dial` where not every address may be connected to."""

import ssl
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

from pylon import __version__
from pylon.errors import system_reason
from pylon.nostr.websocket.dialing import NEXT_ADDRESS_S, Dial
from pylon.nostr.websocket.sockets import ClientSocket
from pylon.nostr.websocket.tls import context_for
from pylon.relay_url import host_and_port, is_loopback
from pylon.text import clean_line

MAX_FRAME_BYTES = 2 * 1024 * 1024
# The library would tell the version of Python, and some services in front of relays turn away what names a library or
# nothing.
USER_AGENT = f"pylon/{__version__}"


async def open_socket(url: str, dial: Dial | None) -> ClientSocket:
    """Connect, and do the websocket handshake. Raises `OSError`, `TimeoutError` or `WebSocketException`."""
    dialled = {} if dial is None else await _dialled(url, dial)
    try:
        # Without compression: content is ciphertext, of which deflate only undoes the base64, and its window takes
        # 60 KiB a connection.
        socket = await connect(
            url,
            ssl=context_for(url.startswith("wss:")),
            proxy=proxy_for(url),
            create_connection=ClientSocket,
            compression=None,
            user_agent_header=USER_AGENT,
            max_size=MAX_FRAME_BYTES,
            ping_timeout=60,
            close_timeout=2,
            happy_eyeballs_delay=NEXT_ADDRESS_S,
            **dialled,
        )
    except ValueError as error:
        # A redirect to an invalid address or, where we dial ourselves, any redirect to another host.
        raise ConnectionError(str(error)) from error
    return cast("ClientSocket", socket)


def why_not_open(error: Exception) -> str:
    """Why a connection was not made or ended, for people: `error` is what `open_socket` or the socket raised."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        # A timeout may say nothing.
        return clean_line(system_reason(error)) or "no answer in time"
    return clean_line(str(error))


def proxy_for(url: str) -> Literal[True] | None:
    """What `connect` takes: True for the proxy that the environment or the settings of a Mac name, None for none.

    A proxy elsewhere would look for a relay of this machine on its own.
    """
    return None if is_loopback(urlsplit(url).hostname or "") else True


async def _dialled(url: str, dial: Dial) -> dict[str, Any]:
    # With a given socket the library uses no proxy, and follows no redirect to another host.
    return {"sock": await dial(*host_and_port(url))}
