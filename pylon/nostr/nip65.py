"""NIP-65: the relays where a key is reached.

Source: https://github.com/nostr-protocol/nips/blob/master/65.md
"""

from dataclasses import dataclass

from pylon.errors import MalformedError
from pylon.nostr.event import Event
from pylon.relay_url import normalize_relay_url

RELAY_LIST_KIND = 10002
# NIP-65 asks for two to four in each direction. A list of thousands would make its readers connect to all of them.
MAX_RELAYS = 32


@dataclass(frozen=True, slots=True)
class RelayList:
    """A key's relays, normalized, in the author's order.

    `write`: where its owner publishes. `read`: where its owner looks for events addressed to it.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


def parse_relay_list(event: Event) -> RelayList:
    """The relay list in a kind 10002 event. Invalid addresses and unknown markers are left out.

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
