"""The gateway's token, and the sessions of browsers that showed the token or a printed one-time code."""

import secrets
import stat
from collections import OrderedDict
from pathlib import Path

from pylon.clock import Clock
from pylon.errors import SetupError
from pylon.files import write_whole
from pylon.gateway.access import is_same_secret

_BYTES = 32
_MOST_SESSIONS = 64
_LEAST_CHARS = 16
# The code stands on a screen, and perhaps in the terminal's history, so it is valid for a short time only.
CODE_S = 600
# Long enough that somebody who opens the page daily is not asked for the token each day.
SESSION_S = 7 * 24 * 3_600


def load_or_create(path: Path) -> str:
    """The token in the file, which is created (mode 0600) if there is none. Raises `SetupError` if unusable."""
    try:
        mode, token = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        token = f"pylon-{secrets.token_urlsafe(_BYTES)}"
        write_whole(path, f"{token}\n".encode())
        return token
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            f"the gateway's token in {path} cannot be read", hint="Delete it; a new one is created."
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SetupError(f"other users can read {path}", hint="Delete it; a new token is created.")
    if len(token) < _LEAST_CHARS or not token.isascii():
        raise SetupError(f"{path} does not contain a token", hint="Delete it; a new one is created.")
    return token


class Sessions:
    """Sessions for browsers. A browser shows the token, or `code`, which is valid once and for `CODE_S` seconds, and
    gets a session, which allows it to read for `SESSION_S` seconds. `in` tells whether a session is open.
    """

    def __init__(self, token: str | None, clock: Clock) -> None:
        self.code = secrets.token_urlsafe(_BYTES)
        self._clock = clock
        self._code_ends = clock.wall() + CODE_S
        # Unix seconds at which each session ends. Not monotonic ones, which may stand still while the machine sleeps.
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._token = token

    def __contains__(self, session: object) -> bool:
        return isinstance(session, str) and self._clock.wall() < self._ends.get(session, 0.0)

    def open(self, key: str) -> str | None:
        """A new session for the token or the code, or None for a wrong `key`."""
        now = self._clock.wall()
        if self.code and now < self._code_ends and is_same_secret(key, self.code):
            self.code = ""
        elif self._token is None or not is_same_secret(key, self._token):
            return None
        session = secrets.token_urlsafe(_BYTES)
        self._ends[session] = now + SESSION_S
        while len(self._ends) > _MOST_SESSIONS:
            self._ends.popitem(last=False)
        return session
