"""Accounts for the many providers of a benchmark, on trial and on credit, so that nothing is ever paid.

Wallet and credit policy are stand-ins. Everything else is what nodes have: accounts, holds, charges, receipts, and
the customer's copy of them.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256

from pylon.clock import Clock
from pylon.money.accounts.account import Terms, Trial
from pylon.money.invoices.receiver import Receiver
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.price import Price
from pylon.money.wallet import Hint, Lookup, LookupState, PayResult, PayState, WalletCode, WalletError, WalletInfo
from pylon.provider.parts import Payments
from pylon.provider.payments.settlement import CreditPolicy
from pylon.provider.queue import Job
from pylon.store.database import Database

PRICE = Price(Msat(500), Msat(0), Msat(10_000))
# More than any job of a benchmark can cost.
BID = Msat.from_sats(2)
_UNLIMITED = Msat.from_sats(1_000_000)


class NoWallet:
    """A stand-in for a wallet: it can neither make nor pay an invoice."""

    async def info(self) -> WalletInfo:
        return WalletInfo(Network.PLAY.value, "stand-in")

    async def balance(self) -> Msat:
        return Msat(0)

    async def create_invoice(self, amount: Msat, *, description: str, expiry_s: int) -> str:  # noqa: ARG002 - a wallet's
        raise WalletError(WalletCode.RESTRICTED, "a benchmark without payments asked for one")

    async def lookup(self, payment_hash: str, *, since: float | None = None) -> Lookup:  # noqa: ARG002 - a wallet's
        return Lookup(LookupState.NOT_FOUND)

    async def ready(self) -> None:
        pass

    async def pay(self, invoice: str, *, fee_limit: Msat) -> PayResult:  # noqa: ARG002 - a wallet's
        return PayResult(PayState.FAILED, code=WalletCode.RESTRICTED)

    async def events(self) -> AsyncIterator[Hint]:
        await asyncio.Event().wait()
        yield Hint("")


@dataclass(slots=True)
class Lending:
    """Whether providers give credit yet. One of these is shared by all of them, to turn credit on at once."""

    on: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDatabasePolicy(CreditPolicy):
    """The credit policy of one of several providers that share a database: names its accounts after it."""

    provider: str
    lending: Lending

    def terms(self, job: Job) -> Terms:
        """See `CreditPolicy`."""
        return Terms(credit=_UNLIMITED) if self.lending.on and not job.trusted else CreditPolicy.terms(self, job)

    def account(self, job: Job) -> str:
        """See `CreditPolicy`."""
        # As long as a public key, so that a lookup costs what it costs a node.
        return sha256(f"{job.request.customer} at {self.provider}".encode()).hexdigest()


def payments(database: Database, clock: Clock, provider: str, lending: Lending) -> Payments:
    """How a provider of a benchmark is paid: on trial, and on credit once `lending` is on."""
    wallet = NoWallet()
    receiver = Receiver(database, wallet, clock, network=Network.PLAY)
    # No daily limit on trials: that is meant for one machine, and here hundreds share a database.
    policy = SharedDatabasePolicy(trial=Trial(per_day=None), provider=provider, lending=lending)
    return Payments(database, wallet, receiver, policy)
