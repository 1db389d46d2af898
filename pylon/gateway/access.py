"""Access rules of the gateway, decided from a request's headers before its body is read.

A web page of another site, open in a browser on this machine, can reach loopback too. Its requests name that site in
`Origin`, or, if its host name was made to resolve to our address (DNS rebinding), in `Host`: both are refused. All
other requests need the token; those that only read may show a session instead. Cookies are not used: a browser sends
a host's cookies to every port of it, and another user's program may listen there.
"""

import hmac
import ipaddress
from collections.abc import Container, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pylon.gateway.problems import Problem

# Paths that anybody may read, since they show nothing of the node.
_OPEN = frozenset({"/health", "/", "/runs"})
# Redirects to the page, whether or not there is a run of that name.
_RUN = "/runs/"


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the rules look at in a request. The names of `headers` are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AccessRules:
    """`names` are the host names, besides addresses, under which the gateway is reached. Without a `token` all
    requests are accepted. `loopback`: it listens on loopback only. `token_file` tells a client where to find the
    token.
    """

    token: str | None
    names: frozenset[str]
    loopback: bool
    token_file: str = "the file gateway-token of its network"  # noqa: S105 - words

    def refusal(self, head: RequestHead, sessions: Container[str]) -> Problem | None:
        """Why this request is refused, or None."""
        host = head.headers.get("host", "")
        if not self._is_ours(host):
            return Problem(
                403,
                "wrong_host",
                f"this gateway does not accept the host name {host[:100]!r}; add it to `gateway.names` in the config",
            )
        origin = head.headers.get("origin")
        if origin is not None and _authority(origin) != host.lower():
            return Problem(403, "wrong_origin", "web pages of other sites may not call this gateway")
        if self.token is None or is_open(head):
            return None
        given = head.headers.get("authorization", "")
        shown = given[7:].strip() if given[:7].lower() == "bearer " else ""
        if is_same_secret(shown, self.token) or (head.method in ("GET", "HEAD") and shown in sessions):
            return None
        said = "the token is wrong" if given else "a token is needed"
        return Problem(
            401, "invalid_api_key", f"{said}: send `Authorization: Bearer …`; the token is in {self.token_file}"
        )

    def _is_ours(self, host: str) -> bool:
        try:
            # Whatever follows the port is parsed as a path here, and is ignored.
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost"
        # No rebinding is possible with a literal address: it is not a name that a stranger can make resolve to us.
        return address.is_loopback or not self.loopback


def is_open(head: RequestHead) -> bool:
    """Whether this request needs no token: it reads one of the open paths, or asks for a session."""
    looks = head.method in ("GET", "HEAD") and (head.path in _OPEN or head.path.startswith(_RUN))
    return looks or (head.method == "POST" and head.path == "/session")


def is_same_secret(given: str, secret: str) -> bool:
    """Whether both are the same, compared in constant time, so that the time tells nothing about the secret."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _authority(origin: str) -> str | None:
    """Host and port of an `Origin` header (RFC 6454), or None if it is malformed."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None
