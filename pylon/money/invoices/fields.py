"""The tagged fields of a BOLT-11 invoice, read from its five-bit values.

Stricter than the specification asks of a reader: a field that must occur once may not occur twice, whatever its
second copy says.

Source: BOLT-11 "Tagged Fields", "Feature Bits"; BOLT-9 for the features.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PREFIX = re.compile(r"ln(?P<currency>bcrt|bc|tbs|tb)(?:(?P<digits>[0-9]{1,20})(?P<multiplier>[munp]?))?")

_TIMESTAMP = 7
SIGNATURE = 104

# The five-bit values of the field letters.
_P, _R, _FEATURES, _X, _F, _D, _S, _N, _H, _C, _M = 1, 3, 5, 6, 9, 13, 16, 19, 23, 24, 27
_LENGTHS = {_P: 52, _S: 52, _H: 52, _N: 53}
_ONCE = frozenset({_P, _S, _H, _N, _D, _X, _C, _FEATURES, _M})
_MINIMAL = frozenset({_X, _C, _FEATURES})

_VAR_ONION, _PAYMENT_SECRET, _BASIC_MPP, _ROUTE_BLINDING, _METADATA = 8, 14, 16, 24, 48
_KNOWN = frozenset({_VAR_ONION, _PAYMENT_SECRET, _BASIC_MPP, _ROUTE_BLINDING, _METADATA})
# BOLT-9 "Dependencies".
_DEPENDS = {_PAYMENT_SECRET: _VAR_ONION, _BASIC_MPP: _PAYMENT_SECRET, _ROUTE_BLINDING: _VAR_ONION}

type Kind = Literal["malformed", "doubled_field", "field_length", "missing_field", "unknown_feature"]


class FieldError(Exception):
    """The fields break a rule, which `kind` names; `invoice.decode` turns it into an `InvoiceError`."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that we use; None for one that is absent.

    `timestamp` is in Unix seconds, `expiry` in seconds. `payment_hash` and `payee`, a public key, are in hex.
    """

    timestamp: int
    payment_hash: str
    expiry: int | None
    payee: str | None


def read(values: Sequence[int]) -> Fields:
    """Reads the fields of an invoice's data part (five-bit values, without the checksum). Raises `FieldError`."""
    if len(values) < _TIMESTAMP + SIGNATURE:
        raise FieldError("malformed", "an invoice is too short to hold a signature")
    single: dict[int, Sequence[int]] = {}
    for tag, data in _split(values[_TIMESTAMP:-SIGNATURE]):
        if len(data) != _LENGTHS.get(tag, len(data)):
            raise FieldError("field_length", f"an invoice's field {tag} has {len(data)} values")
        if tag in _MINIMAL and (not data or data[0] == 0):
            raise FieldError("field_length", f"an invoice's field {tag} starts with zeros")
        if tag in single:
            raise FieldError("doubled_field", f"an invoice's field {tag} is there twice")
        if tag in _ONCE:
            single[tag] = data
    if _P not in single or _S not in single:
        raise FieldError("missing_field", "an invoice names a payment hash and a payment secret")
    if (_D in single) == (_H in single):
        raise FieldError("missing_field", "an invoice has either a description or the hash of one")
    if _FEATURES in single:
        _check_features(single[_FEATURES])
    expiry, payee = single.get(_X), single.get(_N)
    return Fields(
        timestamp=number(values[:_TIMESTAMP]),
        # 52 values are 260 bits; the last four pad.
        payment_hash=(number(single[_P]) >> 4).to_bytes(32).hex(),
        expiry=None if expiry is None else number(expiry),
        # 265 bits, of which the last pads.
        payee=None if payee is None else (number(payee) >> 1).to_bytes(33).hex(),
    )


def number(values: Sequence[int]) -> int:
    """Five-bit values as one number, the most significant first."""
    found = 0
    for value in values:
        found = found << 5 | value
    return found


def _split(values: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
    found: list[tuple[int, Sequence[int]]] = []
    position = 0
    while position < len(values):
        if position + 3 > len(values):
            raise FieldError("malformed", "an invoice ends inside a field")
        tag, length = values[position], values[position + 1] * 32 + values[position + 2]
        end = position + 3 + length
        if end > len(values):
            raise FieldError("malformed", "an invoice ends inside a field")
        found.append((tag, values[position + 3 : end]))
        position = end
    return found


def _check_features(values: Sequence[int]) -> None:
    flags = number(values)
    bits = {bit for bit in range(flags.bit_length()) if flags >> bit & 1}
    # "It's ok to be odd": an unknown even bit must be understood, an odd one may be ignored.
    unknown = sorted(bit for bit in bits if bit % 2 == 0 and bit not in _KNOWN)
    if unknown:
        raise FieldError("unknown_feature", f"an invoice requires feature {unknown[0]}, which is not known here")
    for feature, needed in _DEPENDS.items():
        if bits & {feature, feature + 1} and not bits & {needed, needed + 1}:
            raise FieldError("unknown_feature", f"an invoice's feature {feature} needs feature {needed}")
