"""What answers where a relay should, and does not: the same by the other scheme, one that is not trusted, another."""

import asyncio
import ssl
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from pylon.node.doctor.relays import Answers

_OPEN_S = 5.0


async def what_answers(url: str) -> Answers:
    """What it is that listens at a relay's address and lets no websocket in. Takes some five seconds."""
    other, same = await asyncio.gather(_opens(other_scheme(url)), _opens(url))
    if same and url.startswith("wss:"):
        return Answers.UNTRUSTED
    return Answers.OTHER_SCHEME if other else Answers.STRANGER


def other_scheme(url: str) -> str:
    """The address with `ws` for `wss`, and the other way round; a port that it names stays."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme="ws" if parts.scheme == "wss" else "wss"))


async def _opens(url: str) -> bool:
    try:
        async with (
            asyncio.timeout(_OPEN_S),
            connect(url, ssl=_unlooked(url), compression=None, proxy=None, close_timeout=0.1),
        ):
            return True
    except (TimeoutError, OSError, WebSocketException, ValueError, EOFError):
        return False


def _unlooked(url: str) -> ssl.SSLContext | None:
    # With whoever answers: nothing is said over it but the handshake of a websocket.
    if not url.startswith("wss:"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
