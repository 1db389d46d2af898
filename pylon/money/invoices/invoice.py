"""Lightning invoices (BOLT-11): reads them strictly (`decode`), and checks whether one may be paid now (`check`).

The reader is our own, since the library `bolt11` accepts mixed case, junk after the prefix, doubled fields and
unknown required features; before an invoice is paid, the library has to read the same in it (`second_opinion`).
Whatever is wrong with an invoice, this module raises `InvoiceError` with a code.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from bech32 import bech32_decode

from pylon.errors import MoneyError
from pylon.money.invoices import fields, signature
from pylon.money.msat import MAX_MSAT, MSAT_PER_SAT, Msat
from pylon.money.network import Network

MAX_LENGTH = 2_000
# BOLT-11: 3600 when the field is absent. No wallet gives as much as a year.
DEFAULT_EXPIRY_S = 3_600
MAX_EXPIRY_S = 366 * 86_400
# How long an invoice that we pay may last: a payment whose answer was lost stays set aside until its invoice has
# expired. Our own invoices last ten minutes; wallets give an hour (BOLT-11) to a day (LND) unless asked.
LONGEST_S = 86_400
# With less time left an invoice may expire while it is being paid.
MIN_LEFT_S = 30
# Clocks differ, and wallets date invoices with their own.
MAX_AHEAD_S = 15 * 60
# How many decoded invoices are kept, at 1 to 4 KB each.
KEPT = 1_000


class InvoiceCode(StrEnum):
    """Why an invoice is refused."""

    MALFORMED = "invoice_malformed"
    TOO_LONG = "invoice_too_long"
    PREFIX = "invoice_prefix"
    AMOUNT = "invoice_amount_malformed"
    DOUBLED_FIELD = "invoice_doubled_field"
    FIELD_LENGTH = "invoice_field_length"
    MISSING_FIELD = "invoice_missing_field"
    FEATURE = "invoice_unknown_feature"
    SIGNATURE = "invoice_signature"
    DECODERS_DISAGREE = "invoice_decoders_disagree"
    NETWORK = "invoice_wrong_network"
    NO_AMOUNT = "invoice_no_amount"
    NOT_WHOLE_SATS = "invoice_not_whole_sats"
    EXPIRY = "invoice_expiry_absurd"
    LASTS = "invoice_lasts_too_long"
    EXPIRED = "invoice_expired"
    EXPIRES_SOON = "invoice_expires_soon"
    FROM_FUTURE = "invoice_from_future"


class InvoiceError(MoneyError):
    """An invoice that is malformed or must not be paid. `code` says why."""

    def __init__(self, code: InvoiceCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Invoice:
    """A well-formed, signed invoice. Times are Unix seconds; hash and payee are lower-case hex."""

    text: str
    currency: str
    amount: Msat | None
    payment_hash: str
    payee: str
    created_at: int
    expires_at: int


# The same invoice is decoded again and again: by whoever made or pays it, by the guard of its wallet, for each job
# that waits for it.
@lru_cache(KEPT)
def decode(text: str) -> Invoice:
    """Decodes a BOLT-11 invoice. Raises `InvoiceError`, and nothing else, whatever the text."""
    if len(text) > MAX_LENGTH:
        raise InvoiceError(InvoiceCode.TOO_LONG, f"an invoice is at most {MAX_LENGTH} characters here")
    # ASCII first: lower() turns a few other characters, the Kelvin sign for one, into ASCII letters.
    if not text.isascii() or (text != text.lower() and text != text.upper()):
        raise InvoiceError(InvoiceCode.MALFORMED, "an invoice is ASCII, and all in lower or all in upper case")
    text = text.lower()
    prefix, values = bech32_decode(text)
    if prefix is None or values is None:
        raise InvoiceError(InvoiceCode.MALFORMED, "the invoice's checksum is wrong: it was mistyped or cut off")
    currency, amount = _read_prefix(prefix)
    try:
        found = fields.read(values)
    except fields.FieldError as error:
        raise InvoiceError(InvoiceCode(f"invoice_{error.kind}"), str(error)) from None
    created_at = found.timestamp
    expiry = DEFAULT_EXPIRY_S if found.expiry is None else found.expiry
    if not 1 <= expiry <= MAX_EXPIRY_S:
        raise InvoiceError(InvoiceCode.EXPIRY, f"an invoice that lasts {expiry} s makes no sense")
    try:
        payee = signature.payee(prefix, values, found.payee)
    except ValueError as error:
        raise InvoiceError(InvoiceCode.SIGNATURE, "the invoice's signature is invalid") from error
    return Invoice(text, currency, amount, found.payment_hash, payee, created_at, created_at + expiry)


def check(
    invoice: Invoice, *, network: Network, now: float, min_left_s: float = MIN_LEFT_S, longest_s: float = LONGEST_S
) -> Msat:
    """Checks that an invoice may be paid on this network now, and returns its amount. Raises `InvoiceError`.

    `now` is in Unix seconds; at least `min_left_s` must be left, and the invoice may last `longest_s` in all. Whether
    it is the right amount, payee or purpose is for `payment` to judge.
    """
    if invoice.currency != network.currency:
        raise InvoiceError(
            InvoiceCode.NETWORK,
            f"an ln{invoice.currency} invoice is not one of {network.value} (ln{network.currency})",
        )
    if invoice.amount is None:
        raise InvoiceError(InvoiceCode.NO_AMOUNT, "an invoice without an amount is never paid")
    if invoice.amount % MSAT_PER_SAT:
        raise InvoiceError(InvoiceCode.NOT_WHOLE_SATS, f"{invoice.amount} msat is not a whole number of sats")
    if invoice.created_at > now + MAX_AHEAD_S:
        raise InvoiceError(InvoiceCode.FROM_FUTURE, "the invoice's date is in the future")
    if (lasts_s := invoice.expires_at - invoice.created_at) > longest_s:
        raise InvoiceError(
            InvoiceCode.LASTS,
            f"the invoice is valid for {lasts_s / 3_600:,.1f} hours; the maximum is {longest_s / 3_600:g}",
        )
    if invoice.expires_at <= now:
        raise InvoiceError(InvoiceCode.EXPIRED, "the invoice has expired")
    if invoice.expires_at < now + min_left_s:
        raise InvoiceError(InvoiceCode.EXPIRES_SOON, f"the invoice expires in less than {min_left_s:g} s")
    return invoice.amount


# msat for one unit of each multiplier; pico needs a tenth, so it stands apart.
_MULTIPLIERS = {"": 10**11, "m": 10**8, "u": 10**5, "n": 10**2}


def _read_prefix(prefix: str) -> tuple[str, Msat | None]:
    matched = fields.PREFIX.fullmatch(prefix)
    if matched is None:
        raise InvoiceError(InvoiceCode.PREFIX, "an invoice starts with ln, a known currency and an amount")
    currency, digits, multiplier = matched.group("currency", "digits", "multiplier")
    if digits is None:
        return currency, None
    if digits.startswith("0"):
        raise InvoiceError(InvoiceCode.AMOUNT, "an invoice's amount has no leading zero and is not zero")
    if multiplier == "p":
        # BOLT-11: the last digit must be 0, or the amount would be a fraction of a msat.
        if not digits.endswith("0"):
            raise InvoiceError(InvoiceCode.AMOUNT, "an invoice's amount is a fraction of a msat")
        msat = int(digits) // 10
    else:
        msat = int(digits) * _MULTIPLIERS[multiplier]
    if not 0 < msat <= MAX_MSAT:
        raise InvoiceError(InvoiceCode.AMOUNT, "an invoice's amount is more than there is")
    return currency, Msat(msat)
