"""The two events of a household: a request to join, and the list of members. docs/protocol.md specifies them."""

import orjson

from pylon.errors import MalformedError
from pylon.jobs.kinds import SCHEMA
from pylon.node.household.members import MAX_NAME, MOST_MEMBERS, Household
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, parse_event, verify
from pylon.nostr.keys import SecretKey, check_public_key
from pylon.text import clean_line, is_line

# Ephemeral (NIP-01): the head is listening while an invite is open.
JOIN = 25_940
# Application data (NIP-78), addressable: a member that was offline finds the newest list.
LIST = 30_078
_D = "pylon/household/"
_MAX_URL = 255
_MAX_RELAYS = 8


def join_event(invite: SecretKey, head: str, member: SecretKey, name: str, *, created_at: int) -> Event:
    """The request of `member`: signed with the invite's key, and encrypted for the head (NIP-44).

    Its content is an event that the member has signed, so that nobody can add another's key.
    """
    tags = (("p", head), ("invite", invite.public), ("name", clean_line(name)[:MAX_NAME]))
    own = member.sign(EventDraft(JOIN, "", tags, created_at))
    sealed = ConversationKeys(invite).encrypt(head, orjson.dumps(own.to_dict()))
    outside = (("p", head), ("encrypted",), ("v", SCHEMA))
    return invite.sign(EventDraft(JOIN, sealed, outside, created_at))


def read_join(event: Event, keys: ConversationKeys, head: str) -> tuple[str, str]:
    """The public key and name of the machine that asks to join. `event` is verified already. Raises `WireError`."""
    if event.kind != JOIN or event.tag("p") != head:
        raise MalformedError("this is not a request to join here")
    own = parse_event(_decrypted(keys, event.pubkey, event.content))
    verify(own)
    if own.kind != JOIN or own.tag("p") != head or own.tag("invite") != event.pubkey:
        raise MalformedError("a member's own signature stands for this household and this invite")
    return own.pubkey, clean_line(own.tag("name") or "")[:MAX_NAME]


def list_event(
    household: Household, member: str, head: SecretKey, keys: ConversationKeys, *, created_at: int
) -> Event:
    """The list, encrypted for one member (NIP-44)."""
    body = {"relays": list(household.relays), "members": household.members}
    tags = (("d", _D + member), ("p", member), ("encrypted",), ("v", SCHEMA))
    return head.sign(EventDraft(LIST, keys.encrypt(member, orjson.dumps(body)), tags, created_at))


def read_list(event: Event, keys: ConversationKeys, head: str) -> Household:
    """The household in a list of its head. `event` is verified already. Raises `WireError`."""
    if event.kind != LIST or event.pubkey != head:
        raise MalformedError("this is not a list from the household's head")
    raw = _decrypted(keys, head, event.content)
    members = raw.get("members") if isinstance(raw, dict) else None
    relays = raw.get("relays") if isinstance(raw, dict) else None
    if not isinstance(members, dict) or not isinstance(relays, list) or len(members) > MOST_MEMBERS:
        raise MalformedError("a household's list must hold members and relays")
    if not all(isinstance(name, str) and len(name) <= MAX_NAME for name in members.values()):
        raise MalformedError("a member's name must be text")
    if len(relays) > _MAX_RELAYS or not all(_is_url(url) for url in relays):
        raise MalformedError("a household's relays must be websocket addresses")
    named = {check_public_key(key): clean_line(name) for key, name in members.items()}
    return Household(head, tuple(relays), named, updated_at=event.created_at)


def _is_url(url: object) -> bool:
    return isinstance(url, str) and len(url) <= _MAX_URL and is_line(url) and url.startswith(("ws://", "wss://"))


def _decrypted(keys: ConversationKeys, peer: str, content: str) -> object:
    try:
        return orjson.loads(keys.decrypt(peer, content))
    except orjson.JSONDecodeError as error:
        raise MalformedError("its sealed content is not JSON") from error
