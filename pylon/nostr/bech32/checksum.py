"""Bech32: bytes as text that people can copy, with a checksum (BIP-173, without its bound of 90 characters).

NIP-19 and NIP-49 use this checksum, not the later bech32m. No message here repeats its input: it may be a secret.
"""

from collections.abc import Iterable

from pylon.errors import MalformedError, TooLargeError

# The bound that NIP-19 recommends.
MAX_LENGTH = 5_000

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_CHARSET)}
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6


def encode(prefix: str, data: bytes) -> str:
    """The lower-case text. `prefix` is lower-case ASCII. Raises `TooLargeError` past 5,000 characters."""
    values, rest, bits = _regroup(data, 8, 5)
    if bits:
        # Zeros fill up the last group of five.
        values.append(rest << (5 - bits))
    if len(prefix) + 1 + len(values) + _CHECKSUM > MAX_LENGTH:
        raise TooLargeError(f"bech32 text is at most {MAX_LENGTH} characters")
    polymod = _polymod(_expand(prefix) + values + [0] * _CHECKSUM) ^ 1
    values += [(polymod >> 5 * (_CHECKSUM - 1 - i)) & 31 for i in range(_CHECKSUM)]
    return prefix + "1" + "".join(_CHARSET[value] for value in values)


def decode(text: str) -> tuple[str, bytes]:
    """The lower-case prefix and the bytes.

    Raises `TooLargeError` past 5,000 characters, `MalformedError` for mixed case, a foreign character, a wrong
    checksum or padding that is not zero.
    """
    if len(text) > MAX_LENGTH:
        raise TooLargeError(f"bech32 text is at most {MAX_LENGTH} characters")
    # ASCII first: lower() turns a few other characters, the Kelvin sign for one, into ASCII letters.
    if not text.isascii() or (text != text.lower() and text != text.upper()):
        raise MalformedError("bech32 text is ASCII, and all in lower or all in upper case")
    prefix, separator, rest = text.lower().rpartition("1")
    if not separator or not prefix or not all("!" <= character <= "~" for character in prefix):
        raise MalformedError("bech32 text starts with a prefix that ends in 1")
    try:
        values = [_VALUES[character] for character in rest]
    except KeyError:
        raise MalformedError("bech32 text holds a character that bech32 does not use") from None
    if len(values) < _CHECKSUM or _polymod(_expand(prefix) + values) != 1:
        raise MalformedError("the checksum does not hold: this text was mistyped or cut")
    octets, padding, bits = _regroup(values[:-_CHECKSUM], 5, 8)
    if bits >= 5 or padding:
        raise MalformedError("bech32 text ends in padding that is not zero")
    return prefix, bytes(octets)


def _regroup(values: Iterable[int], size: int, new_size: int) -> tuple[list[int], int, int]:
    """The same bits in groups of another size; then the remaining bits that fill no group, and their number."""
    groups: list[int] = []
    rest = bits = 0
    for value in values:
        rest = rest << size | value
        bits += size
        while bits >= new_size:
            bits -= new_size
            groups.append(rest >> bits)
            rest &= (1 << bits) - 1
    return groups, rest, bits


def _expand(prefix: str) -> list[int]:
    # BIP-173, `bech32_hrp_expand`: the high bits of each character, a zero, the low bits.
    codes = prefix.encode("ascii")
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATORS):
            if top >> i & 1:
                checksum ^= generator
    return checksum
