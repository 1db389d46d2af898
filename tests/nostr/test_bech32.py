from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError, TooLargeError, WireError
from pylon.nostr.bech32 import checksum as bech32

prefixes = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20)


@given(prefixes, st.binary(max_size=200))
def test_every_value_decodes_back_in_either_case(prefix: str, data: bytes) -> None:
    text = bech32.encode(prefix, data)
    assert bech32.decode(text) == (prefix, data)
    assert bech32.decode(text.upper()) == (prefix, data)


@given(st.text(max_size=100) | st.binary(max_size=100).map(lambda data: "npub1" + data.decode("latin-1")))
def test_any_text_raises_nothing_but_wire_errors(text: str) -> None:
    with suppress(WireError):
        bech32.decode(text)


@given(st.binary(max_size=60), st.data())
def test_one_mistyped_character_is_always_found(data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode("npub", data)
    place = draw.draw(st.integers(5, len(text) - 1))
    other = draw.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l").filter(lambda c: c != text[place]))
    with pytest.raises(MalformedError):
        bech32.decode(text[:place] + other + text[place + 1 :])


# BIP-173 "Test vectors", those whose data is whole bytes or nothing.
@pytest.mark.parametrize("text", ["A12UEL5L", "a12uel5l", "?1ezyfcl"])
def test_published_valid_strings_decode(text: str) -> None:
    assert bech32.decode(text) == (text[0].lower(), b"")


# BIP-173 "Test vectors", invalid.
@pytest.mark.parametrize(
    "text",
    [
        "\x201nwldj5",
        "\x7f1axkwrx",
        "\x801eym55h",
        "pzry9x0s0muk",
        "1pzry9x0s0muk",
        "x1b4n0q5v",
        "li1dgmt3",
        "de1lg7wt\xff",
        "A1G7SGD8",
        "10a06t8",
        "1qzzfhee",
    ],
)
def test_published_invalid_strings_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        bech32.decode(text)


def test_mixed_case_is_refused() -> None:
    text = bech32.encode("npub", b"x" * 32)
    for mixed in (text[:-1] + text[-1].upper(), "N" + text[1:], text[:5] + text[5:].upper()):
        if mixed != text:
            with pytest.raises(MalformedError):
                bech32.decode(mixed)


def test_characters_that_only_lower_to_ascii_are_refused() -> None:
    # "K" is the Kelvin sign, whose lower case is an ASCII k.
    text = bech32.encode("k", b"x")
    with pytest.raises(MalformedError):
        bech32.decode("\u212a" + text.upper()[1:])


@pytest.mark.parametrize("values", [[0] * 1, [31, 31], [0, 1], [0] * 3 + [1] * 3])
def test_padding_that_is_not_zero_or_too_long_is_refused(values: list[int]) -> None:
    checked = bech32._expand("npub") + values
    polymod = bech32._polymod(checked + [0] * 6) ^ 1
    values = values + [(polymod >> 5 * (5 - i)) & 31 for i in range(6)]
    with pytest.raises(MalformedError, match="padding"):
        bech32.decode("npub1" + "".join(bech32._CHARSET[value] for value in values))


def test_length_is_bounded_in_both_directions() -> None:
    fits = bech32.encode("naddr", bytes(3_117))
    assert len(fits) <= bech32.MAX_LENGTH
    assert bech32.decode(fits) == ("naddr", bytes(3_117))
    with pytest.raises(TooLargeError):
        bech32.encode("naddr", bytes(3_120))
    with pytest.raises(TooLargeError):
        bech32.decode("q" * (bech32.MAX_LENGTH + 1))
