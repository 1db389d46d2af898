"""Checks the signature of a BOLT-11 invoice, and tells whose it is: the node that is paid.

Source: BOLT-11 "Data Part", and "Requirements" for the field `n`.
"""

from collections.abc import Sequence

from coincurve import PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_recoverable, recoverable_convert

from pylon.money.invoices.fields import SIGNATURE, number


def payee(prefix: str, values: Sequence[int], named: str | None) -> str:
    """The public key of the node that signed an invoice, in hex. `values` are its data part, without the checksum.

    `named` is the key that its field `n` gives, if any: the signature is then checked against that key, as BOLT-11
    requires, and not just some key recovered from it. Raises `ValueError`.
    """
    signed, signature = prefix.encode() + _bytes(values[:-SIGNATURE]), _bytes(values[-SIGNATURE:])
    if named is None:
        return PublicKey.from_signature_and_message(signature, signed).format().hex()
    der = cdata_to_der(recoverable_convert(deserialize_recoverable(signature)))
    if not PublicKey(bytes.fromhex(named)).verify(der, signed):
        raise ValueError("the signature is not the named node's")
    return named


def _bytes(values: Sequence[int]) -> bytes:
    """Five-bit values as bytes, filled up with zero bits at the end."""
    bits = 5 * len(values)
    size = -(-bits // 8)
    return (number(values) << 8 * size - bits).to_bytes(size)
