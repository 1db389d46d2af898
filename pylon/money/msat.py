"""Amounts: whole thousandths of a satoshi, never a float.

`Msat` is an amount: zero or more, and no more than will ever exist. What can be negative (a balance, a difference) is
a plain `int` of msat.
"""

import re
from typing import Never

from pylon.errors import MoneyError

MSAT_PER_SAT = 1_000
# 21 million bitcoin: any larger figure is an error or an attack.
MAX_SATS = 21_000_000 * 100_000_000
MAX_MSAT = MAX_SATS * MSAT_PER_SAT

_DIGITS = re.compile(r"(0|[1-9][0-9]{0,18})\Z")
_SIGNED = re.compile(r"(0|-?[1-9][0-9]{0,18})\Z")


def _whole(value: object) -> int:
    # `bool` is a subclass of `int`, but True is no amount.
    if not isinstance(value, int) or type(value) is bool:
        raise TypeError(f"an amount is a whole number, not {type(value).__name__}")
    return int(value)


class Msat(int):
    """An amount in msat, 0 to 21 million bitcoin.

    Adding, subtracting and multiplying whole numbers gives an `Msat` again, checked; a float or a `bool` raises
    `TypeError`, a result out of range raises `MoneyError`. `str` gives the digits, as they stand on the wire;
    `sats_text` is for people.
    """

    __slots__ = ()

    def __new__(cls, value: int) -> "Msat":
        if type(value) is not int:
            _whole(value)
        if not 0 <= value <= MAX_MSAT:
            raise MoneyError(f"{value} msat is not an amount: it must be 0 to {MAX_MSAT}")
        return super().__new__(cls, value)

    @classmethod
    def from_sats(cls, sats: int) -> "Msat":
        """Whole satoshis. Raises `MoneyError` when out of range."""
        return cls(_whole(sats) * MSAT_PER_SAT)

    def whole_sats(self) -> int:
        """The same amount in satoshis. Raises `MoneyError` when it is not a whole number of them."""
        sats, rest = divmod(int(self), MSAT_PER_SAT)
        if rest:
            raise MoneyError(f"{int(self)} msat is not a whole number of sats")
        return sats

    def sats_up(self) -> int:
        """Satoshis, rounded up: the least that covers this amount."""
        return -(-int(self) // MSAT_PER_SAT)

    def __add__(self, other: int) -> "Msat":
        return Msat(int(self) + _whole(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> "Msat":
        return Msat(int(self) - _whole(other))

    def __mul__(self, other: int) -> "Msat":
        return Msat(int(self) * _whole(other))

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Never:
        raise TypeError("an amount is never divided into a float: use // or divmod on int(amount)")

    def __repr__(self) -> str:
        return f"Msat({int(self)})"

    # Without a call through Python: amounts are written for every job.
    __str__ = int.__repr__


ZERO = Msat(0)


def parse_msat(text: str) -> Msat:
    """An amount as tags write it: decimal digits, no sign, no leading zero. Raises `MoneyError`."""
    if not _DIGITS.match(text):
        raise MoneyError(f"{text[:40]!r} is not an amount in msat")
    return Msat(int(text))


def parse_signed_msat(text: str) -> int:
    """A difference as tags write it: like an amount, a minus sign allowed. Raises `MoneyError`."""
    if not _SIGNED.match(text) or abs(int(text)) > MAX_MSAT:
        raise MoneyError(f"{text[:40]!r} is not a difference in msat")
    return int(text)


def sats_text(msat: int, unit: str = "sat") -> str:
    """For people: "12 sat", "1.5 sat", "-0.001 sat". `unit` names the network's money (`Network.unit`)."""
    sats, rest = divmod(abs(msat), MSAT_PER_SAT)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    return f"{'-' if msat < 0 else ''}{sats:,}{fraction} {unit}"
