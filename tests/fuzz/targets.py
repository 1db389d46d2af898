"""Everything here that reads what strangers send. A new parser joins as one more row of `TARGETS`."""

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import zstandard

from pylon.errors import WireError
from pylon.jobs import announcement, cancel, feedback, heartbeat, payload, request, result
from pylon.nostr import event, filter, messages, nip65  # noqa: A004
from pylon.nostr.bech32 import checksum as bech32
from pylon.nostr.bech32 import nip19
from pylon.nostr.client import nip11
from pylon.nostr.crypto import nip06, nip44
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.keys import SecretKey
from pylon.relay_url import normalize_relay_url
from tests.relay_lists import relay_list_draft

MIB = 1024 * 1024
NOW = 1_700_000_000
ALICE, BOB = SecretKey(b"\1" * 32), SecretKey(b"\2" * 32)
ALICE_KEYS, BOB_KEYS = ConversationKeys(ALICE), ConversationKeys(BOB)
KEY = ALICE_KEYS.get(BOB.public)
ID = "ab" * 32


@dataclass(frozen=True, slots=True)
class Target:
    """A parser, and valid inputs to start from.

    `parse` may raise `WireError` only. `memory` bounds what it may hold at once, in bytes, whatever comes in up
    to `limit` bytes, which is what a relay takes as one message. With `expands` a short input may become a long
    one, so that the memory of every input is traced.
    """

    name: str
    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    limit: int = 128 * 1024
    memory: int = 16 * MIB
    expands: bool = False


def _text(data: bytes) -> str:
    # Lone surrogates, which JSON cannot bring but command lines can.
    return data.decode("utf-8", "surrogateescape")


def _json(data: bytes) -> Any:
    """Bytes that are no JSON are looked at by the targets that read frames; here only what JSON can say is."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _signed(kind: int, content: str = "", tags: tuple[event.Tag, ...] = ()) -> Event:
    return ALICE.sign(EventDraft(kind, content, tags, NOW))


# Nostr

EVENT = _signed(
    1, 'line\n"quoted" \x7f \u2028 \U0001f600', (("p", BOB.public), ("e", ID, "wss://a.example"), ("t", "x"))
)
EXPIRING = _signed(5940, "", (("expiration", str(NOW + 600)), ("v", "pylon/1"), ("encrypted",)))
FILTER = filter.Filter(
    ids=frozenset({ID}), kinds=frozenset({1, 7000}), tags={"p": frozenset({BOB.public}), "t": frozenset({"x"})},
    since=NOW, until=NOW + 1, limit=10,
)  # fmt: skip


def _event(data: bytes) -> None:
    parsed = event.loads_event(data)
    assert event.loads_event(parsed.to_json()) == parsed
    event.expiration(parsed)
    FILTER.matches(parsed)
    event.verify(parsed)


def _filter(data: bytes) -> None:
    parsed = filter.parse_filter(_json(data))
    assert filter.parse_filter(parsed.to_dict()) == parsed
    parsed.matches(EVENT)


def _client_message(data: bytes) -> None:
    message = messages.parse_client_message(data)
    assert messages.parse_client_message(messages.encode(message)) == message


def _relay_message(data: bytes) -> None:
    message = messages.parse_relay_message(data)
    assert messages.parse_relay_message(messages.encode(message)) == message


CLIENT_MESSAGES = (
    messages.EventMessage(EVENT), messages.Req("sub", (FILTER, filter.Filter())), messages.Count("sub", (FILTER,)),
    messages.Close("sub"), messages.Auth(_signed(22242, "", (("challenge", "c"),))),
)  # fmt: skip
RELAY_MESSAGES = (
    messages.EventMessage(EVENT, "sub"), messages.Ok(ID, False, "blocked: no"), messages.Eose("sub"),
    messages.Closed("sub", "error: x"), messages.Notice("hello"), messages.AuthChallenge("challenge"),
    messages.CountResult("sub", 3),
)  # fmt: skip


def _encoded(values: tuple[Any, ...]) -> tuple[bytes, ...]:
    return tuple(messages.encode(value) for value in values)


# Encryption


def _sealed_padding(data: bytes) -> bytes:
    """Any padded plaintext under a valid code: what a peer that holds the key can send."""
    nonce = bytes(32)
    cipher_key, cipher_nonce, mac_key = nip44._message_keys(KEY, nonce)
    ciphertext = nip44._chacha20(cipher_key, cipher_nonce, data)
    mac = hmac.digest(mac_key, nonce + ciphertext, "sha256")
    return nip44.decrypt(KEY, base64.b64encode(b"\2" + nonce + ciphertext + mac).decode())


PLAINTEXTS = (b"x", b"hello" * 10, bytes(1_000), b"y" * 65_536)
PADDED = tuple(
    (len(text).to_bytes(2) if len(text) < 65_536 else bytes(2) + len(text).to_bytes(4))
    + text + bytes(nip44.padded_length(len(text)) - len(text))
    for text in PLAINTEXTS
)  # fmt: skip

# Text for people

ENTITIES = (
    nip19.PublicKey(ALICE.public), ALICE, nip19.Note(ID), nip19.Profile(ALICE.public, ("wss://a.example",)),
    nip19.EventPointer(ID, ("wss://a.example",), ALICE.public, 5940),
    nip19.AddressPointer("pylon", ALICE.public, 31990, ("wss://a.example",)),
)  # fmt: skip


def _typed_key(data: bytes) -> None:
    text = _text(data)
    for parse in (nip19.decode, nip19.parse_public_key, nip19.parse_secret_key):
        try:
            parse(text)
        except WireError:
            continue


def _bech32_data(data: bytes) -> None:
    """Any data under a valid checksum; its first byte chooses the prefix."""
    prefixes = ("npub", "nsec", "note", "nprofile", "nevent", "naddr")
    nip19.decode(bech32.encode(prefixes[data[0] % 6] if data else "npub", data[1:]))


def _bech32_seeds() -> tuple[bytes, ...]:
    return tuple(bytes((place,)) + bech32.decode(nip19.encode(entity))[1] for place, entity in enumerate(ENTITIES))


def _words(data: bytes) -> None:
    words, _, passphrase = _text(data).partition("|")
    nip06.secret_key_from_words(words, passphrase=passphrase[:100])


# Relays


def _url(data: bytes) -> None:
    url = normalize_relay_url(_text(data))
    assert normalize_relay_url(url) == url


def _relay_list(data: bytes) -> None:
    relays = nip65.parse_relay_list(event.loads_event(data))
    assert all(normalize_relay_url(url) == url for url in (*relays.read, *relays.write))


RELAY_LIST = nip65.RelayList(("wss://a.example", "wss://b.example"), ("wss://a.example", "ws://[::1]:7777"))
INFORMATION = {
    "name": "relay", "supported_nips": [1, 11],
    "limitation": {"max_message_length": 1, "max_limit": 5, "created_at_upper_limit": 9, "auth_required": True},
}  # fmt: skip

# Jobs: each as an event, and the private forms once more with the hidden JSON broken under a valid code.

JOB = request.JobRequest("Say hello. " * 40, request.JobParameters(model="m", max_tokens=5, stop=("x",)), bid=None)
ADDRESS = result.Address(ID, BOB.public, private=True, expiration=NOW + 600)
OPEN_ADDRESS = result.Address(ID, BOB.public, private=False)


def _hidden(kind: int, parse: Callable[[Event, ConversationKeys], object]) -> Callable[[bytes], object]:
    """`parse` of an event from Alice to Bob whose private content is the input."""

    def run(data: bytes) -> object:
        # NIP-44 seals no empty text.
        content = ALICE_KEYS.encrypt(BOB.public, data or b"\0")
        tags = (("e", ID), ("p", BOB.public), ("encrypted",), ("v", "pylon/1"))
        return parse(Event(ID, ALICE.public, NOW, kind, tags, content, "0" * 128), BOB_KEYS)

    return run


def _opened(parse: Callable[[Event, ConversationKeys], object]) -> Callable[[bytes], object]:
    return lambda data: parse(event.loads_event(data), BOB_KEYS)


def _drafts(*drafts: EventDraft) -> tuple[bytes, ...]:
    return tuple(ALICE.sign(draft).to_json() for draft in drafts)


def _zstd(data: bytes) -> bytes:
    return base64.b64encode(zstandard.ZstdCompressor(level=3).compress(data))


def _repacked(data: bytes) -> object:
    """The compressor's bytes broken, base64 whole."""
    return payload.decompress(base64.b64encode(data))


HIDDEN_REQUEST = orjson.dumps(
    {"text": "hello", "tags": [["i", "", "text"], ["param", "model", "m"], ["param", "max_tokens", "5"],
     ["bid", "1000"], ["param", "temperature", "0.5"], ["param", "format", "json_schema", "{}"],
     ["output", "text/plain"]]}
)  # fmt: skip
HIDDEN_CHAT = orjson.dumps(
    {"text": '[{"role":"user","content":"hello"}]', "tags": [["param", "messages", "json"], ["topup", "5000"]]}
)
HIDDEN_RESULT = orjson.dumps(
    {"text": "hi", "tags": [["model", "m", ID, "q4"], ["usage", "5", "7"], ["timing", "50", "100"],
     ["finish", "stop"], ["amount", "1000", "lnbcrt1"]]}
)  # fmt: skip
HIDDEN_FEEDBACK = orjson.dumps(
    {"text": "x", "tags": [["status", "error", "busy"], ["amount", "1000"], ["offset", "12"]]}
)
ANNOUNCEMENT = announcement.Announcement(
    "pylon", "name", "about", frozenset({5940}), (announcement.OfferedModel("m", ID, "q4", 4_096),),
    relays=("wss://a.example",),
)  # fmt: skip

BOMB_SEEDS = (_zstd(b"hello " * 100), _zstd(bytes(5 * MIB)), _zstd(b"[]," * 60_000), _zstd(bytes(range(256)) * 40))

TARGETS = (
    Target("event", _event, (EVENT.to_json(), EXPIRING.to_json())),
    Target("filter", _filter, (orjson.dumps(FILTER.to_dict()),)),
    Target("client message", _client_message, _encoded(CLIENT_MESSAGES)),
    Target("relay message", _relay_message, _encoded(RELAY_MESSAGES)),
    Target(
        "nip44 payload",
        lambda data: nip44.decrypt(KEY, _text(data)),
        tuple(nip44.encrypt(KEY, text).encode() for text in PLAINTEXTS[:3]),
    ),
    Target("nip44 padding", _sealed_padding, PADDED),
    Target("nip19 text", _typed_key, tuple(nip19.encode(entity).encode() for entity in ENTITIES), limit=6_000),
    Target("nip19 fields", _bech32_data, _bech32_seeds(), limit=1_000),
    Target("nip06 words", _words, (b"abandon " * 11 + b"about", b"zoo " * 11 + b"wrong|passphrase")),
    Target("nip11 document", lambda data: nip11.parse_relay_information(_json(data)), (orjson.dumps(INFORMATION),)),
    Target("nip65 address", _url, (b"wss://relay.example:7777/path?a=b#c", b"ws://[::1]:80", b" WSS://A.example/ ")),
    Target("nip65 list", _relay_list, _drafts(relay_list_draft(RELAY_LIST, NOW))),
    Target(
        "job request",
        _opened(request.parse_request),
        _drafts(
            request.private_draft(JOB, BOB.public, ALICE_KEYS, created_at=NOW),
            request.open_draft(JOB, BOB.public, salt="s", created_at=NOW),
            request.open_draft(request.JobRequest("short"), None, salt="s", created_at=NOW),
        ),
    ),
    Target("hidden job request", _hidden(5940, request.parse_request), (HIDDEN_REQUEST, HIDDEN_CHAT)),
    Target("hidden job result", _hidden(6940, result.parse_result), (HIDDEN_RESULT,)),
    Target("hidden job feedback", _hidden(7000, feedback.parse_feedback), (HIDDEN_FEEDBACK,)),
    Target(
        "announcement",
        lambda data: announcement.parse_announcement(event.loads_event(data)),
        _drafts(announcement.announcement_draft(ANNOUNCEMENT, created_at=NOW)),
    ),
    Target(
        "heartbeat",
        lambda data: heartbeat.parse_heartbeat(event.loads_event(data)),
        _drafts(heartbeat.heartbeat_draft(heartbeat.Heartbeat("pylon", 2, 1, expires_at=NOW + 120), created_at=NOW)),
    ),
    Target(
        "cancellation",
        lambda data: cancel.parse_cancel(event.loads_event(data)),
        _drafts(cancel.cancel_draft((ID,), 5940, BOB.public, created_at=NOW)),
    ),
    Target("decompression", payload.decompress, BOMB_SEEDS, memory=24 * MIB, expands=True),
    Target(
        "decompression, whole base64",
        _repacked,
        tuple(map(base64.b64decode, BOMB_SEEDS)),
        memory=24 * MIB,
        expands=True,
    ),
)
