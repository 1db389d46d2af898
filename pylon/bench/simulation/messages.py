"""The messages of modelled peers about a job: their meaning, without encryption or signature."""

from collections.abc import Callable
from dataclasses import dataclass

from pylon.jobs.codes import ErrorCode
from pylon.jobs.request import ReceivedRequest
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat


@dataclass(frozen=True, slots=True)
class Processing:
    """The job is being processed, or will be in `wait_s` seconds."""

    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """The job waits for a payment of this amount."""

    amount: Msat


@dataclass(frozen=True, slots=True)
class Refusal:
    """The job is not done. `code` None stands for an answer that cannot be read."""

    code: ErrorCode | None


@dataclass(frozen=True, slots=True)
class Result:
    """An answer. `right` is known to the simulation only."""

    usage: Usage
    receipt: AccountReceipt | None
    right: bool = True


type Reply = Processing | Invoice | Refusal | Result


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request, the relays that it went over, and the functions that take a reply to it.

    `reply` takes one that was pushed, `stored` one whose push was lost: it lies in a relay's store.
    """

    request: ReceivedRequest
    relays: tuple[int, ...]
    reply: Callable[[str, Reply], None]
    stored: Callable[[str, Reply], None]
