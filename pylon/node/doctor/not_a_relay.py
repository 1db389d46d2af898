"""What listens at a relay's address when no relay answers there."""

import asyncio
import ssl
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from pylon.node.doctor.relays import Answers

_OPEN_S = 5.0


async def what_answers(url: str) -> Answers:
    """Why no websocket opens at an address where something listens. Takes up to five seconds."""
    other, same = await asyncio.gather(_opens(other_scheme(url)), _opens(url))
    if same and url.startswith("wss:"):
        return Answers.UNTRUSTED
    return Answers.OTHER_SCHEME if other else Answers.STRANGER


def other_scheme(url: str) -> str:
    """The address with `ws` in place of `wss`, or the reverse. A port in it stays."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme="ws" if parts.scheme == "wss" else "wss"))


async def _opens(url: str) -> bool:
    try:
        async with (
            asyncio.timeout(_OPEN_S),
            connect(url, ssl=_unverified_tls(url), compression=None, proxy=None, close_timeout=0.1),
        ):
            return True
    except (TimeoutError, OSError, WebSocketException, ValueError, EOFError):
        return False


def _unverified_tls(url: str) -> ssl.SSLContext | None:
    # No certificate is checked, because nothing but the handshake of a websocket is sent.
    if not url.startswith("wss:"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
