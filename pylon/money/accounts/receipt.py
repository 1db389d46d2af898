"""What both sides of an account sign: the `account` and `account-seen` tags, and their parsers.

A provider's result carries `["account", epoch, seq, charge, charged_total, paid_total]`, amounts in msat. The
customer's next request carries `["account-seen", epoch, seq, charged_total]`: the last receipt that it accepts.
A `charge` below zero gives something back: a provider may, and ours never does.

`epoch` names one life of the provider's database, so that totals which start anew are seen to do so. `seq`
counts the charges of one account in one epoch: 1, 2, 3, …
"""

import re
import secrets
from collections.abc import Sequence

from pylon.errors import MalformedError, MoneyError
from pylon.money.msat import Msat, parse_msat, parse_signed_msat
from pylon.records import record

ACCOUNT_TAG = "account"
SEEN_TAG = "account-seen"

_EPOCH = re.compile(r"[0-9a-f]{16}\Z")
_SEQ = re.compile(r"(0|[1-9][0-9]{0,14})\Z")


@record
class AccountReceipt:
    """One charge, and the running totals after it. `charge_msat` may be below zero, the totals never are."""

    epoch: str
    seq: int
    charge_msat: int
    charged_total: Msat
    paid_total: Msat

    def to_tag(self) -> tuple[str, ...]:
        """The tag for a result or a feedback."""
        amounts = (int(self.charge_msat), int(self.charged_total), int(self.paid_total))
        return (ACCOUNT_TAG, self.epoch, str(self.seq), *map(str, amounts))


@record
class AccountSeen:
    """The last receipt that a customer accepts. `seq` 0 means: this epoch is known, no charge of it yet."""

    epoch: str
    seq: int
    charged_total: Msat

    def to_tag(self) -> tuple[str, ...]:
        """The tag for a request."""
        return (SEEN_TAG, self.epoch, str(self.seq), str(int(self.charged_total)))


def parse_receipt(tag: Sequence[str]) -> AccountReceipt:
    """Parses an `account` tag. Raises `MalformedError`."""
    match tag:
        case [name, epoch, seq, charge, charged, paid] if name == ACCOUNT_TAG:
            try:
                number = _seq(seq)
                if number == 0:
                    raise MalformedError("an account receipt starts at seq 1")
                return AccountReceipt(
                    _epoch(epoch), number, parse_signed_msat(charge), parse_msat(charged), parse_msat(paid)
                )
            except MoneyError as error:
                raise MalformedError(f"an account receipt is wrong: {error}") from error
    raise MalformedError("an account receipt has five values")


def parse_seen(tag: Sequence[str]) -> AccountSeen:
    """Parses an `account-seen` tag. Raises `MalformedError`."""
    match tag:
        case [name, epoch, seq, charged] if name == SEEN_TAG:
            try:
                return AccountSeen(_epoch(epoch), _seq(seq), parse_msat(charged))
            except MoneyError as error:
                raise MalformedError(f"an account acknowledgement is wrong: {error}") from error
    raise MalformedError("an account acknowledgement has three values")


def new_epoch() -> str:
    """A name for a new epoch: 16 random hex characters."""
    return secrets.token_hex(8)


def _epoch(text: str) -> str:
    if not _EPOCH.match(text):
        raise MalformedError("an account's epoch is 16 lower-case hex characters")
    return text


def _seq(text: str) -> int:
    if not _SEQ.match(text):
        raise MalformedError("an account's seq is a whole number")
    return int(text)
