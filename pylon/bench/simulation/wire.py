"""What modelled peers say to each other about a job: the meaning of a message, without its encryption."""

from collections.abc import Callable
from dataclasses import dataclass

from pylon.jobs.codes import ErrorCode
from pylon.jobs.request import ReceivedRequest
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat


@dataclass(frozen=True, slots=True)
class Processing:
    """The job is under way, or will be in so many seconds."""

    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """The job waits for this much."""

    amount: Msat


@dataclass(frozen=True, slots=True)
class Refusal:
    """The job is not done. `code` None: an answer that cannot be read."""

    code: ErrorCode | None


@dataclass(frozen=True, slots=True)
class Result:
    """An answer. Whether it is `right` only the simulation knows."""

    usage: Usage
    receipt: AccountReceipt | None
    right: bool = True


type Reply = Processing | Invoice | Refusal | Result


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way: what it says, over which relays it came, and where replies go."""

    request: ReceivedRequest
    relays: tuple[int, ...]
    reply: Callable[[str, Reply], None]
    # The reply was not pushed: it lies in a relay's store.
    stored: Callable[[str, Reply], None]
