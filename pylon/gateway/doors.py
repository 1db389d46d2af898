"""Who may come in: what a request's headers say is judged before anything of it is read.

A page of a stranger in this machine's browser reaches loopback too. Its requests say where they come from
(`Origin`), and those to a name that was made to resolve to us say that name (`Host`): both are refused. Whatever is
left needs the token, or a session where it only looks. Nothing is taken from cookies: a browser shows those of a host
to whatever listens at any of its ports, and here that may be another user's.
"""

import hmac
import ipaddress
from collections.abc import Container, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pylon.gateway.problems import Problem

# What tells nothing, and how a browser gets its session.
_OPEN = frozenset({"/health", "/", "/runs"})
# Leads to the page, whatever the run's name is.
_RUN = "/runs/"


@dataclass(frozen=True, slots=True)
class Knock:
    """A request as far as it matters here; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Doors:
    """`names` are the hosts besides addresses under which the gateway is reached; `token` None lets everybody in.
    `token_file` is what whoever lacks it is told of its place.
    """

    token: str | None
    names: frozenset[str]
    loopback: bool
    token_file: str = "the file gateway-token of its network"  # noqa: S105 - words

    def judge(self, knock: Knock, sessions: Container[str]) -> Problem | None:
        """Why this request is turned away, or None."""
        host = knock.headers.get("host", "")
        if not self._is_ours(host):
            return Problem(
                403,
                "wrong_host",
                f"this gateway does not accept the host name {host[:100]!r}; add it to `gateway.names` in the config",
            )
        origin = knock.headers.get("origin")
        if origin is not None and _place(origin) != host.lower():
            return Problem(403, "wrong_origin", "web pages of other sites may not call this gateway")
        if self.token is None or is_open(knock):
            return None
        given = knock.headers.get("authorization", "")
        shown = given[7:].strip() if given[:7].lower() == "bearer " else ""
        if same(shown, self.token) or (knock.method in ("GET", "HEAD") and shown in sessions):
            return None
        said = "the token is wrong" if given else "a token is needed"
        return Problem(
            401, "invalid_api_key", f"{said}: send `Authorization: Bearer …`; the token is in {self.token_file}"
        )

    def _is_ours(self, host: str) -> bool:
        try:
            # Whatever follows the port would be a path.
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost"
        # Nobody's name resolves to an address that is written out.
        return address.is_loopback or not self.loopback


def is_open(knock: Knock) -> bool:
    """Whether this is for everybody who may reach the gateway."""
    looks = knock.method in ("GET", "HEAD") and (knock.path in _OPEN or knock.path.startswith(_RUN))
    return looks or (knock.method == "POST" and knock.path == "/session")


def same(given: str, token: str) -> bool:
    """Whether it is the token; takes as long for any."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _place(origin: str) -> str | None:
    """Host and port of an origin, or None: anybody may send anything."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None
