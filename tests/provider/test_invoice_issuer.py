"""Invoices for jobs over a real database; the wallet is a fake, and says so."""

import pytest

from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.accounts.account import AskTopUp, Terms, WaitForTopUp
from pylon.money.invoices import receiver
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.receiver import EXPIRY_S, GRACE_S, ReceiveCode, ReceiveError, Receiver
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.schema import MONEY
from pylon.money.states import InvoiceState
from pylon.money.wallet import WalletError
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider.admission import Accept
from pylon.provider.journal import Journal
from pylon.provider.payments.invoice_issuer import LEAST_LEFT_S, InvoiceIssuer, NotIssued
from pylon.provider.payments.open_invoice import Misfit
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy
from pylon.provider.queue import Job
from pylon.provider.rows import SCHEMA, JobState
from tests.money.fakes import FakeLightning, clock
from tests.opened import opened_database

KEY, OTHER = (SecretKey(bytes(31) + bytes([n])) for n in (7, 8))
ASKED = Msat(3_000)
FITS = WaitForTopUp(Msat(2_000), Msat(4_000))


class Desk:
    """Whoever asks for payments, and the wallets of both sides."""

    def __init__(self, database, group) -> None:
        self.database = database
        self.lightning = FakeLightning(clock())
        self.clock = self.lightning.clock
        self.wallet, self.payer = self.lightning.wallet(), self.lightning.wallet(OTHER)
        self.receiver = Receiver(database, self.wallet, self.clock, network=Network.PLAY)
        self.issuer = InvoiceIssuer(database=database, wallet=self.wallet, receiver=self.receiver, clock=self.clock)
        policy = CreditPolicy(stranger=Terms(), trial=None)
        self.settlement = AccountSettlement(Journal(database, group), policy)

    async def job(self, text: str, *, key: SecretKey = KEY, seconds: int = 3_600) -> Job:
        """A job that waits for its payment."""
        now = int(self.clock.wall())
        event = key.sign(EventDraft(5940, text, created_at=now))
        request = ReceivedRequest(event.id, event.pubkey, now, JobRequest(text), True, ("p",))
        job = Job(request, event, Accept(Msat(2_000), now + seconds, "m", 8), float(now), "ws://r")
        assert isinstance(await self.settlement.take(job), AskTopUp | WaitForTopUp)
        return job

    async def ends(self, job: Job) -> None:
        await self.settlement.end(job.id, JobState.CANCELLED, code="cancelled", finished_at=self.clock.wall())

    async def had(self, job: Job):
        return await invoice_store.of_job(self.database, job.id)


@pytest.fixture
async def desk(tmp_path):
    async with opened_database(tmp_path / "a.db", SCHEMA, MONEY) as (database, group):
        yield Desk(database, group)


async def test_an_invoice_is_on_disk_when_it_is_given_and_a_job_has_the_same_one_again(desk):
    job = await desk.job("a")
    issued = await desk.issuer.issue(job, ASKED)
    assert (issued.job, issued.customer, issued.amount) == (job.id, KEY.public, ASKED)
    assert await desk.had(job) == issued == await desk.issuer.open_of(KEY.public)
    assert await desk.issuer.issue(job, ASKED) == issued
    assert await desk.issuer.open_of(OTHER.public) is None


@pytest.mark.parametrize(("seconds", "lasts"), [(5, 60), (300, 300), (86_400, EXPIRY_S)])
async def test_an_invoice_lasts_as_long_as_its_job_a_minute_at_least_and_no_longer_than_others(desk, seconds, lasts):
    issued = await desk.issuer.issue(await desk.job("a", seconds=seconds), ASKED)
    assert issued.expires_at - desk.clock.wall() == lasts


async def test_a_customer_has_one_open_invoice_and_another_customer_its_own(desk):
    await desk.issuer.issue(await desk.job("a"), ASKED)
    assert await desk.issuer.issue(await desk.job("b"), ASKED) is NotIssued.ANOTHER
    assert await desk.issuer.issue(await desk.job("c", key=OTHER), ASKED) not in NotIssued
    assert not desk.issuer.down


async def test_a_job_whose_invoice_ran_out_or_was_paid_gets_no_other(desk):
    late, paid = await desk.job("late"), await desk.job("paid", key=OTHER)
    await desk.issuer.issue(late, ASKED)
    issued = await desk.issuer.issue(paid, ASKED)
    await desk.payer.pay(issued.invoice, fee_limit=Msat(0))
    desk.clock.advance(EXPIRY_S + GRACE_S + 1)
    credited = await desk.issuer.check(at_start=True)
    assert [(one.customer, one.job, one.amount, one.late) for one in credited] == [
        (OTHER.public, paid.id, ASKED, True)
    ]
    assert await desk.issuer.issue(late, ASKED) is NotIssued.RAN_OUT
    assert await desk.issuer.issue(paid, ASKED) is NotIssued.PAID
    assert not desk.issuer.down
    assert (await desk.issuer.has_paid(OTHER.public), await desk.issuer.has_paid(KEY.public)) == (True, False)


async def test_who_left_too_many_invoices_unpaid_is_given_no_other_and_that_is_not_the_wallet_s_fault(
    desk, monkeypatch
):
    monkeypatch.setattr(receiver, "MAX_UNPAID_INVOICES", 0)
    assert await desk.issuer.issue(await desk.job("a"), ASKED) is NotIssued.UNPAID
    assert not desk.issuer.down


@pytest.mark.parametrize("code", [ReceiveCode.TOO_MANY, ReceiveCode.WALLET_BUSY])
async def test_a_job_comes_later_where_strangers_or_requests_are_too_many_and_the_wallet_is_not_down(
    desk, monkeypatch, code
):
    async def too_many(*_, **__):
        raise ReceiveError(code, "too many")

    monkeypatch.setattr(desk.receiver, "issue", too_many)
    assert await desk.issuer.issue(await desk.job("a"), ASKED) is NotIssued.LATER
    assert not desk.issuer.down


async def test_a_wallet_that_makes_no_usable_invoice_counts_as_down_until_it_makes_one(desk):
    job = await desk.job("a")
    desk.wallet.invoice_text = lambda _: "no invoice"
    assert await desk.issuer.issue(job, ASKED) is NotIssued.WALLET
    assert desk.issuer.down and await desk.had(job) is None
    desk.wallet.invoice_text = lambda text: text
    assert await desk.issuer.issue(job, ASKED) not in NotIssued
    assert not desk.issuer.down


async def test_a_wallet_that_was_down_is_asked_whether_it_is_back_though_no_invoice_is_due(desk):
    desk.wallet.down = True
    assert await desk.issuer.issue(await desk.job("a"), ASKED) is NotIssued.WALLET
    assert await desk.issuer.check() is None and desk.issuer.down
    desk.wallet.down = False
    desk.wallet.calls.clear()
    assert await desk.issuer.check() == [] and not desk.issuer.down
    assert desk.wallet.calls == ["info"]
    await desk.issuer.check()
    assert desk.wallet.calls == ["info"], "while it answers nobody asks it how it is"


async def test_a_wallet_that_does_not_say_what_was_paid_counts_as_down(desk):
    await desk.issuer.issue(await desk.job("a"), ASKED)
    desk.wallet.down = True
    assert await desk.issuer.check(at_start=True) is None
    assert desk.issuer.down


async def test_a_job_stands_behind_its_customer_s_open_invoice_while_there_is_time_to_pay_it(desk):
    first, second = await desk.job("a"), await desk.job("b")
    issued = await desk.issuer.issue(first, ASKED)
    assert await desk.issuer.invoice_for(second, FITS) == issued
    desk.clock.advance(EXPIRY_S - LEAST_LEFT_S)
    assert await desk.issuer.invoice_for(second, FITS) == issued
    desk.clock.advance(0.1)
    assert await desk.issuer.invoice_for(second, FITS) is None
    assert await desk.issuer.invoice_for(await desk.job("c", key=OTHER), FITS) is None


async def test_the_invoice_of_a_job_that_is_gone_is_the_next_one_s_if_it_fits(desk):
    gone, small, fits = [await desk.job(text) for text in "abc"]
    issued = await desk.issuer.issue(gone, ASKED)
    await desk.ends(gone)
    assert isinstance(await desk.issuer.invoice_for(small, WaitForTopUp(Msat(1_000), Msat(2_000))), Misfit)
    assert await desk.issuer.invoice_for(fits, FITS) == issued
    assert (await desk.had(fits)).payment_hash == issued.payment_hash


async def test_an_invoice_that_no_job_waits_for_gives_way_to_another(desk):
    gone, next_ = await desk.job("a"), await desk.job("b")
    issued = await desk.issuer.issue(gone, ASKED)
    # A job waits for it.
    assert await desk.issuer.give_up(issued) is None
    assert await desk.issuer.open_of(KEY.public) == issued
    await desk.ends(gone)
    assert await desk.issuer.give_up(issued) is None
    assert await desk.issuer.open_of(KEY.public) is None
    assert await desk.issuer.issue(next_, ASKED) not in NotIssued


async def test_an_invoice_that_was_paid_is_credited_and_not_given_up(desk):
    gone = await desk.job("a")
    issued = await desk.issuer.issue(gone, ASKED)
    await desk.ends(gone)
    await desk.payer.pay(issued.invoice, fee_limit=Msat(0))
    assert (await desk.issuer.give_up(issued)).amount == ASKED
    assert (await desk.had(gone)).state is InvoiceState.SETTLED


async def test_an_invoice_stays_while_the_wallet_does_not_say_whether_it_was_paid(desk):
    gone = await desk.job("a")
    issued = await desk.issuer.issue(gone, ASKED)
    await desk.ends(gone)
    desk.wallet.down = True
    with pytest.raises(WalletError):
        await desk.issuer.give_up(issued)
    assert (await desk.had(gone)).state is InvoiceState.PENDING
