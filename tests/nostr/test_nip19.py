from contextlib import suppress
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import MalformedError, TooLargeError, WireError
from pylon.nostr.bech32 import checksum as bech32
from pylon.nostr.bech32 import nip19
from pylon.nostr.bech32.nip19 import AddressPointer, EventPointer, Note, Profile, PublicKey
from pylon.nostr.keys import SecretKey

SECRET = SecretKey(b"\3" * 32)
ID = "ab" * 32

public_keys = st.integers(1, 2**200).map(lambda number: SecretKey(number.to_bytes(32)).public)
event_ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
kinds = st.integers(0, 65_535)
relays = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20).map(lambda name: f"wss://{name}.example"),
    max_size=4,
).map(tuple)
entities = st.one_of(
    st.builds(PublicKey, public_keys),
    st.integers(1, 2**200).map(lambda number: SecretKey(number.to_bytes(32))),
    st.builds(Note, event_ids),
    st.builds(Profile, public_keys, relays),
    st.builds(EventPointer, event_ids, relays, st.none() | public_keys, st.none() | kinds),
    st.builds(AddressPointer, st.text(max_size=60), public_keys, kinds, relays),
)


def tlv(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(bytes((name, len(value))) + value for name, value in fields)


# Published vectors


def test_bare_keys_are_as_published(nips_text_vectors: Any) -> None:
    for text, key in nips_text_vectors["nip19"]["npub"]:
        assert nip19.npub(key) == text
        assert nip19.decode(text) == PublicKey(key)
    for text, key in nips_text_vectors["nip19"]["nsec"]:
        secret = SecretKey(bytes.fromhex(key))
        assert nip19.nsec(secret) == text
        assert nip19.decode(text) == secret


def test_profiles_are_as_published(nips_text_vectors: Any) -> None:
    for text, expected in nips_text_vectors["nip19"]["nprofile"]:
        profile = Profile(expected["pubkey"], tuple(expected["relays"]))
        assert nip19.decode(text) == profile
        assert nip19.encode(profile) == text


# An independent implementation


@given(entities)
@settings(max_examples=100)
def test_nostr_sdk_reads_ours_the_same(entity: nip19.Entity) -> None:
    text = nip19.encode(entity)
    match entity:
        case PublicKey(public_key):
            assert nostr_sdk.PublicKey.parse(text).to_hex() == public_key
        case SecretKey():
            assert nostr_sdk.SecretKey.parse(text).to_hex() == entity.secret_bytes.hex()
        case Note(event_id):
            assert nostr_sdk.EventId.parse(text).to_hex() == event_id
        case Profile(public_key, urls):
            profile = nostr_sdk.Nip19Profile.from_bech32(text)
            assert profile.public_key().to_hex() == public_key
            assert tuple(str(url) for url in profile.relays()) == urls
        case EventPointer(event_id, urls, author, kind):
            pointer = nostr_sdk.Nip19Event.from_bech32(text)
            assert pointer.event_id().to_hex() == event_id
            assert tuple(str(url) for url in pointer.relays()) == urls
            their_author, their_kind = pointer.author(), pointer.kind()
            assert (their_author.to_hex() if their_author else None) == author
            assert (their_kind.as_u16() if their_kind else None) == kind
        case AddressPointer(identifier, public_key, kind, _):
            coordinate = nostr_sdk.Nip19Coordinate.from_bech32(text).coordinate()
            assert coordinate.identifier() == identifier
            assert coordinate.public_key().to_hex() == public_key
            assert coordinate.kind().as_u16() == kind


def test_we_read_those_of_nostr_sdk_the_same() -> None:
    url = nostr_sdk.RelayUrl.parse("wss://relay.example")
    key, event_id = nostr_sdk.PublicKey.parse(SECRET.public), nostr_sdk.EventId.parse(ID)
    assert nip19.decode(key.to_bech32()) == PublicKey(SECRET.public)
    assert nip19.decode(nostr_sdk.SecretKey.parse(SECRET.secret_bytes.hex()).to_bech32()) == SECRET
    assert nip19.decode(event_id.to_bech32()) == Note(ID)
    profile = nostr_sdk.Nip19Profile(key, relays=[url])
    assert nip19.decode(profile.to_bech32()) == Profile(SECRET.public, ("wss://relay.example",))
    event = nostr_sdk.Nip19Event(event_id, author=key, kind=nostr_sdk.Kind(5940), relays=[url])
    assert nip19.decode(event.to_bech32()) == EventPointer(ID, ("wss://relay.example",), SECRET.public, 5940)
    coordinate = nostr_sdk.Coordinate(nostr_sdk.Kind(31990), key, "pylon")
    address = nostr_sdk.Nip19Coordinate(coordinate, relays=[url])
    expected = AddressPointer("pylon", SECRET.public, 31990, ("wss://relay.example",))
    assert nip19.decode(address.to_bech32()) == expected


# Properties


@given(entities)
def test_every_value_decodes_back(entity: nip19.Entity) -> None:
    assert nip19.decode(nip19.encode(entity)) == entity


@given(st.sampled_from(["npub", "nsec", "note", "nprofile", "nevent", "naddr", "x"]), st.binary(max_size=150))
def test_any_bytes_under_a_valid_checksum_raise_nothing_but_wire_errors(prefix: str, data: bytes) -> None:
    with suppress(WireError):
        nip19.decode(bech32.encode(prefix, data))


@given(st.text(max_size=100))
def test_any_text_raises_nothing_but_wire_errors(text: str) -> None:
    for parse in (nip19.decode, nip19.parse_public_key, nip19.parse_secret_key):
        with suppress(WireError):
            parse(text)


# Standard and traps


def test_unknown_fields_are_ignored_and_the_first_of_a_field_counts() -> None:
    key, other = bytes.fromhex(SECRET.public), bytes.fromhex(SecretKey.generate().public)
    data = tlv((77, b"?"), (0, key), (0, other), (1, b"wss://a.example"), (200, b""))
    assert nip19.decode(bech32.encode("nprofile", data)) == Profile(SECRET.public, ("wss://a.example",))


KEY, EVENT_ID = bytes.fromhex(SECRET.public), bytes.fromhex(ID)


@pytest.mark.parametrize(
    ("prefix", "data"),
    [
        ("npub", KEY[:-1]),
        ("npub", KEY + b"\0"),
        ("npub", bytes(32)),
        ("nsec", bytes(32)),
        ("nsec", b"\xff" * 32),
        ("nsec", b"\1" * 31),
        ("note", EVENT_ID[:-1]),
        ("nprofile", b""),
        ("nprofile", KEY),
        ("nprofile", tlv((1, b"wss://a.example"))),
        ("nprofile", tlv((0, KEY[:-1]))),
        ("nprofile", tlv((0, bytes(32)))),
        ("nprofile", tlv((0, KEY))[:-1]),
        ("nprofile", tlv((0, KEY)) + b"\1"),
        ("nprofile", tlv((0, KEY)) + b"\1\5abc"),
        ("nprofile", tlv((0, KEY), (1, b"wss://\xff"))),
        ("nevent", tlv((2, KEY))),
        ("nevent", tlv((0, EVENT_ID), (2, KEY[:-1]))),
        ("nevent", tlv((0, EVENT_ID), (3, b"\0\0\1"))),
        ("nevent", tlv((0, EVENT_ID), (3, b"\0\1\0\0"))),
        ("naddr", tlv((0, b"x"), (2, KEY))),
        ("naddr", tlv((0, b"x"), (3, b"\0\0\0\1"))),
        ("naddr", tlv((0, b"\xff"), (2, KEY), (3, b"\0\0\0\1"))),
        ("nrelay", tlv((0, b"wss://a.example"))),
        ("ncryptsec", bytes(91)),
    ],
)
def test_a_value_that_breaks_the_standard_is_refused(prefix: str, data: bytes) -> None:
    with pytest.raises(MalformedError):
        nip19.decode(bech32.encode(prefix, data))


@pytest.mark.parametrize(
    "entity",
    [
        PublicKey("0" * 64),
        PublicKey(SECRET.public.upper()),
        Note("x"),
        Note(ID.upper()),
        EventPointer(ID, author="x"),
        EventPointer(ID, kind=65_536),
        EventPointer(ID, kind=-1),
        EventPointer(ID, relays=("wss://é.example",)),
        AddressPointer("\ud800", SECRET.public, 1),
    ],
)
def test_a_value_that_is_none_is_not_written(entity: nip19.Entity) -> None:
    with pytest.raises(MalformedError):
        nip19.encode(entity)


def test_what_does_not_fit_is_refused() -> None:
    long = "wss://" + "a" * 249
    assert nip19.decode(nip19.encode(Profile(SECRET.public, (long,)))) == Profile(SECRET.public, (long,))
    with pytest.raises(TooLargeError):
        nip19.encode(Profile(SECRET.public, (long + "a",)))
    with pytest.raises(TooLargeError):
        nip19.encode(AddressPointer("é" * 128, SECRET.public, 1))
    with pytest.raises(TooLargeError):
        nip19.encode(Profile(SECRET.public, (long,) * 20))


# What people type


def test_a_public_key_is_read_as_people_hold_it() -> None:
    npub = nip19.npub(SECRET.public)
    profile = nip19.encode(Profile(SECRET.public, ("wss://a.example",)))
    for text in (npub, npub.upper(), f" {npub}\n", profile, SECRET.public, SECRET.public.upper()):
        assert nip19.parse_public_key(text) == SECRET.public


def test_a_secret_key_is_read_as_people_hold_it() -> None:
    for text in (
        nip19.nsec(SECRET),
        f"{nip19.nsec(SECRET)}\n",
        nip19.nsec(SECRET).upper(),
        SECRET.secret_bytes.hex(),
    ):
        assert nip19.parse_secret_key(text) == SECRET


@pytest.mark.parametrize(
    "change", [str, str.upper, lambda text: text[:-1], lambda text: text + "x", lambda text: "\t" + text]
)
def test_a_secret_key_in_place_of_a_public_one_is_refused_and_not_repeated(change: Any) -> None:
    text = change(nip19.nsec(SECRET))
    with pytest.raises(MalformedError, match="secret key") as caught:
        nip19.parse_public_key(text)
    error = caught.value
    assert text.strip() not in str(error) + error.hint + repr(error)
    assert error.__cause__ is None


def test_an_encrypted_secret_key_is_no_public_key_either() -> None:
    with pytest.raises(MalformedError, match="secret key"):
        nip19.parse_public_key("ncryptsec1qqqq")


def test_no_message_repeats_what_was_typed() -> None:
    nsec = nip19.nsec(SECRET)
    for text in (nsec[:-1], nsec[:-1] + "b", nsec[:20] + nsec[20:].upper(), "n" + nsec, nsec * 100):
        for parse in (nip19.decode, nip19.parse_secret_key, nip19.parse_public_key):
            with pytest.raises(WireError) as caught:
                parse(text)
            assert nsec[5:25] not in str(caught.value).lower()


def test_other_values_are_neither_public_nor_secret_keys() -> None:
    note = nip19.encode(Note(ID))
    for parse in (nip19.parse_public_key, nip19.parse_secret_key):
        with pytest.raises(MalformedError, match="64 hex digits"):
            parse(note)
    with pytest.raises(MalformedError, match="this is a public key"):
        nip19.parse_secret_key(nip19.npub(SECRET.public))


@pytest.mark.parametrize("text", ["", "0" * 64, "f" * 64, "f" * 63])
def test_hex_that_is_no_point_is_no_public_key(text: str) -> None:
    with pytest.raises(MalformedError):
        nip19.parse_public_key(text)


def test_the_beginning_of_an_npub_names_the_one_key_that_begins_so() -> None:
    known = [SecretKey.generate().public for _ in range(20)]
    wanted = nip19.npub(known[7])
    for text in (wanted, wanted[:14], wanted[:14] + "…", f" {wanted[:40].upper()} ", known[7]):
        assert nip19.public_key_among(text, known) == known[7]
    # A whole key need not be known.
    assert nip19.public_key_among(wanted, []) == known[7]
    for text in (wanted[:10], wanted[:14][:-1] + "b", "nsec1qqqqqqqqqq", "", "…"):
        with pytest.raises(MalformedError):
            nip19.public_key_among(text, known)
    with pytest.raises(MalformedError, match="11 characters"):
        nip19.public_key_among(wanted[:10], known)
    assert nip19.public_key_among(wanted[:11], known) == known[7]
    with pytest.raises(MalformedError, match="2 known keys"):
        nip19.public_key_among(wanted[:14], [known[7], known[7]])
    with pytest.raises(MalformedError, match="no known keys"):
        nip19.public_key_among(wanted[:14], known[8:])


@pytest.mark.parametrize("name", ["a program", "", "ff" * 32, "AB" * 32, "ab" * 31])
def test_what_is_no_public_key_is_shown_as_it_is(name):
    assert nip19.shown_key(SECRET.public) == nip19.npub(SECRET.public)
    assert nip19.shown_key(name) == name
