"""The parts of a provider, put together in two groups.

`Answering` turns jobs into results, `Listening` turns events from relays into jobs. `service.Provider` starts, stops
and watches both.
"""

from dataclasses import dataclass, field

from pylon.clock import Clock
from pylon.inference.service import InferenceService
from pylon.money.invoices.receiver import Receiver
from pylon.money.wallet import Wallet
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.contents import Contents
from pylon.provider.customers import Customers
from pylon.provider.intake.intake import Intake, for_provider
from pylon.provider.intake.open_cancels import OpenCancels
from pylon.provider.intake.refusals import Refusals
from pylon.provider.intake.refused_requests import RefusedRequests
from pylon.provider.intake.shared_refusals import SharedRefusals
from pylon.provider.journal import Journal
from pylon.provider.judge import Judge
from pylon.provider.occupancy import Occupancy
from pylon.provider.outbox import Outbox
from pylon.provider.payments.invoice_issuer import InvoiceIssuer
from pylon.provider.payments.payment_gate import PaymentGate
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy, FreeSettlement, Settlement
from pylon.provider.recovery import Recovery
from pylon.provider.replies import Replies
from pylon.provider.settings import ProviderSettings
from pylon.provider.work.active_jobs import ActiveJobs
from pylon.provider.work.results import Results
from pylon.provider.work.runner import Runner
from pylon.provider.writable import Writable
from pylon.store.database import Database


@dataclass(frozen=True, slots=True)
class Payments:
    """How payments are received: through this wallet, on these terms, and booked in this database."""

    database: Database
    wallet: Wallet
    receiver: Receiver
    credit: CreditPolicy = field(default_factory=CreditPolicy)

    def issuer(self, clock: Clock) -> InvoiceIssuer:
        """What makes invoices for customers."""
        return InvoiceIssuer(database=self.database, wallet=self.wallet, receiver=self.receiver, clock=clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the parts work with."""

    secret: SecretKey
    keys: ConversationKeys
    pool: RelayPool
    inference: InferenceService
    journal: Journal
    settings: ProviderSettings
    clock: Clock
    customers: Customers


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """From a job to its published result. `payment_gate` is None where work is free."""

    outbox: Outbox
    replies: Replies
    settlement: Settlement
    results: Results
    runner: Runner
    payment_gate: PaymentGate | None
    active_jobs: ActiveJobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """From an event of a relay, or a row that an earlier process left, to a job or a refusal."""

    intake: Intake
    refusals: Refusals
    open_cancels: OpenCancels
    recovery: Recovery


def answering(around: Surroundings, payments: Payments | None) -> Answering:
    """Puts together what answers jobs; all work is free without `payments`."""
    keys, journal, settings, clock = around.keys, around.journal, around.settings, around.clock
    outbox = Outbox(around.pool, clock)
    replies = Replies(
        secret=around.secret, keys=keys, outbox=outbox, clock=clock, trusted=settings.trusted.__contains__
    )
    accounts = None if payments is None else AccountSettlement(journal, payments.credit)
    settlement: Settlement = accounts or FreeSettlement(journal)
    results = Results(
        secret=around.secret,
        keys=keys,
        inference=around.inference,
        journal=journal,
        settlement=settlement,
        outbox=outbox,
        replies=replies,
        clock=clock,
        customers=around.customers,
    )
    runner = Runner(
        inference=around.inference,
        journal=journal,
        contents=Contents(journal, keys),
        results=results,
        replies=replies,
        clock=clock,
        processing_after_s=settings.processing_after_s,
    )
    payment_gate: PaymentGate | None = None
    if payments is not None and accounts is not None:
        payment_gate = PaymentGate(
            issuer=payments.issuer(clock),
            settlement=accounts,
            replies=replies,
            clock=clock,
            run=runner.add,
            end=results.end,
            most=settings.max_unpaid,
        )
    return Answering(
        outbox=outbox,
        replies=replies,
        settlement=settlement,
        results=results,
        runner=runner,
        payment_gate=payment_gate,
        active_jobs=ActiveJobs(payment_gate=payment_gate, runner=runner),
    )


def listening(
    around: Surroundings, answers: Answering, occupancy: Occupancy, disk: Writable, since: float
) -> Listening:
    """Puts together what takes jobs on. Requests from before `since` (Unix seconds) are ignored."""
    secret, journal, settings, clock = around.secret, around.journal, around.settings, around.clock
    active_jobs, results = answers.active_jobs, answers.results
    judge = Judge(provider=secret.public, keys=around.keys, settings=settings, clock=clock, load=occupancy.load)
    open_cancels = OpenCancels(around.pool, active_jobs.has, active_jobs.take_back)
    refusals = Refusals(
        trusted=settings.trusted.__contains__,
        journal=journal,
        active_jobs=active_jobs,
        results=results,
        replies=answers.replies,
        refused=RefusedRequests(journal, clock),
        shared_refusals=SharedRefusals(answers.replies),
        outbox=answers.outbox,
        clock=clock,
        customers=around.customers,
    )
    intake = Intake(
        pool=around.pool,
        filters=lambda: for_provider(secret.public, settings, clock.wall(), since),
        judge=judge,
        settlement=answers.settlement,
        active_jobs=active_jobs,
        open_cancels=open_cancels,
        refusals=refusals,
        cannot_write=disk.failed,
    )
    recovery = Recovery(
        journal=journal, judge=judge, active_jobs=active_jobs, open_cancels=open_cancels, results=results
    )
    return Listening(intake=intake, refusals=refusals, open_cancels=open_cancels, recovery=recovery)
