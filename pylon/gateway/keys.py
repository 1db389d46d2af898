"""The gateway's token, and the sessions of browsers that have shown it, or a code that was printed for them."""

import secrets
import stat
from collections import OrderedDict
from pathlib import Path

from pylon.errors import SetupError
from pylon.files import write_whole
from pylon.gateway.doors import same

_BYTES = 32
_MOST_SESSIONS = 64
_LEAST_CHARS = 16


def load_or_create(path: Path) -> str:
    """The token in that file; a new one (0600) where there is none. Raises `SetupError`."""
    try:
        mode, token = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        token = f"pylon-{secrets.token_urlsafe(_BYTES)}"
        write_whole(path, f"{token}\n".encode())
        return token
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            f"the gateway's token in {path} cannot be read", hint="Remove it: a new one is made."
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SetupError(f"others may read {path}", hint="Remove it: a new token is made.")
    if len(token) < _LEAST_CHARS or not token.isascii():
        raise SetupError(f"what stands in {path} is no token", hint="Remove it: a new one is made.")
    return token


class Sessions:
    """A browser shows the token, or a code that is good once, and gets a cookie that opens what is looked at."""

    def __init__(self, token: str | None) -> None:
        self.code = secrets.token_urlsafe(_BYTES)
        self.known: OrderedDict[str, None] = OrderedDict()
        self._token = token

    def open(self, key: str) -> str | None:
        """A new session's cookie, or None for a wrong key."""
        if self.code and same(key, self.code):
            self.code = ""
        elif self._token is None or not same(key, self._token):
            return None
        session = secrets.token_urlsafe(_BYTES)
        self.known[session] = None
        while len(self.known) > _MOST_SESSIONS:
            self.known.popitem(last=False)
        return session
