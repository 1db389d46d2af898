"""What people read: keys that they can type again, and numbers of things."""

from pylon.cli.output import counted, short
from pylon.nostr import nip19
from pylon.nostr.keys import SecretKey


def test_a_key_in_a_table_is_the_beginning_of_its_npub_and_names_it_again() -> None:
    key = SecretKey.generate().public
    assert short(key) == short(nip19.npub(key))
    assert nip19.public_key_among(short(key), [key, SecretKey.generate().public]) == key


def test_a_key_of_another_kind_shows_both_its_ends() -> None:
    payee = "02" + "ab" * 30 + "cdef12"
    assert short(payee) == "02abababab…cdef12"


def test_one_thing_is_not_many() -> None:
    assert [counted(number, "provider") for number in (0, 1, 2_000)] == [
        "0 providers",
        "1 provider",
        "2,000 providers",
    ]
