"""NIP-65: the relays where a key is reached, and the one spelling of a relay's address.

Source: https://github.com/nostr-protocol/nips/blob/master/65.md
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from pylon.errors import MalformedError
from pylon.nostr.event import Event, EventDraft, Tag

RELAY_LIST_KIND = 10002
# NIP-19 gives an address one byte of length: a longer one could not be written into an nprofile.
MAX_URL = 255
# NIP-65 asks for two to four in each direction; a list of thousands would only make its readers connect.
MAX_RELAYS = 32

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_VISIBLE = re.compile(r"[!-~]+\Z")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)


@dataclass(frozen=True, slots=True)
class RelayList:
    """A key's relays, normalized, in the author's order.

    `write`: where its owner publishes. `read`: where its owner looks for what others address to it.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


def normalize_relay_url(url: str) -> str:
    """The one spelling of a relay's address: lower-case scheme and host, no default port, no bare slash, no fragment.

    Raises `MalformedError` for a scheme other than ws and wss, a name or password in it, a host that is none, or
    more than 255 characters.
    """
    # Checked before the parser sees it: urlsplit silently drops tabs and line ends.
    url = url.strip()
    if len(url) > MAX_URL or not _VISIBLE.match(url):
        raise MalformedError(f"a relay address is 1 to {MAX_URL} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise MalformedError("a relay address has a host or port that is none") from None
    scheme = parts.scheme
    if scheme not in _DEFAULT_PORTS:
        raise MalformedError("a relay address starts with wss:// or ws://")
    if "@" in parts.netloc:
        raise MalformedError("a relay address holds no user name and no password")
    authority = _host(parts)
    if port == 0:
        raise MalformedError("a relay address has a host or port that is none")
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        authority += f":{port}"
    if parts.query:
        return f"{scheme}://{authority}{parts.path or '/'}?{parts.query}"
    return f"{scheme}://{authority}{'' if parts.path == '/' else parts.path}"


def relay_spelling(url: str) -> str:
    """As `normalize_relay_url`, and what that refuses as it is: for telling relays apart."""
    try:
        return normalize_relay_url(url)
    except MalformedError:
        return url


def parse_relay_list(event: Event) -> RelayList:
    """What a kind 10002 event says. Addresses and markers that cannot be used are left out.

    Raises `MalformedError` for another kind.
    """
    if event.kind != RELAY_LIST_KIND:
        raise MalformedError(f"a relay list is an event of kind {RELAY_LIST_KIND}")
    # Dictionaries for their order: the author's favourite comes first.
    read: dict[str, None] = {}
    write: dict[str, None] = {}
    for tag in event.tags:
        if len(tag) < 2 or tag[0] != "r":
            continue
        marker = tag[2] if len(tag) > 2 else ""
        try:
            url = normalize_relay_url(tag[1])
        except MalformedError:
            continue
        if marker in ("", "read"):
            read[url] = None
        if marker in ("", "write"):
            write[url] = None
    return RelayList(tuple(read)[:MAX_RELAYS], tuple(write)[:MAX_RELAYS])


def relay_list_draft(relays: RelayList, created_at: int | None = None) -> EventDraft:
    """The kind 10002 event that publishes a list. Raises `MalformedError` for an address that is none."""
    read = dict.fromkeys(map(normalize_relay_url, relays.read))
    write = dict.fromkeys(map(normalize_relay_url, relays.write))
    tags: list[Tag] = []
    for url in read | write:
        if url in read and url in write:
            tags.append(("r", url))
        else:
            tags.append(("r", url, "read" if url in read else "write"))
    return EventDraft(RELAY_LIST_KIND, tags=tuple(tags), created_at=created_at)


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    bracketed, bracket, rest = parts.netloc.rpartition("]")
    if bracket:
        # urlsplit lets text stand between the bracket and the port; a zone (%) means something on one machine only.
        if (rest and not rest.startswith(":")) or "%" in bracketed:
            raise MalformedError("a relay address has a host or port that is none")
        # urlsplit has refused what is no IPv6 address, but not what a later version of IP may look like.
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise MalformedError("a relay address has a host or port that is none") from None
    if not _HOST_NAME.match(host):
        raise MalformedError("a relay address has a host or port that is none")
    return host
