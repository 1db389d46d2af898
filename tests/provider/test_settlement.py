"""A job's step and its money, in one transaction, when many jobs come at once."""

import asyncio
from dataclasses import replace

import pytest

from pylon.errors import MoneyError, WireError
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money import audit
from pylon.money.accounts.account import AskTopUp, Basis, Run, Terms
from pylon.money.msat import Msat
from pylon.money.price import FREE, Price
from pylon.money.schema import MONEY
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider.admission import Accept
from pylon.provider.journal import Journal
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy, FreeSettlement
from pylon.provider.queue import Job
from pylon.provider.rows import SCHEMA, JobState, Work
from pylon.store.database import Database
from pylon.store.group import GroupCommit

KEY = SecretKey(bytes(31) + b"\x07")
QUOTE = Msat(2_000)
WORK = Work(3, 2, 5, 2.0)


def job(text: str, *, quote: Msat = QUOTE, trusted: bool = False) -> Job:
    event = KEY.sign(EventDraft(5940, text, created_at=1))
    request = ReceivedRequest(event.id, event.pubkey, 1, JobRequest(text), True, ("p",))
    return Job(request, event, Accept(quote, 100, "m", 8, Price(Msat(1_500))), 1.0, "ws://r", trusted)


def signed(receipt):
    return KEY.sign(EventDraft(6940, str(receipt.seq), created_at=1))


@pytest.fixture
async def database(tmp_path):
    database = await Database.open(tmp_path / "a.db", [SCHEMA, MONEY])
    yield database
    async with database.transaction() as tx:
        assert audit.examine(await audit.collect(tx)) == []
    await database.close()


@pytest.fixture
async def settlement(database):
    group = GroupCommit(database)
    group.start()
    policy = CreditPolicy(stranger=Terms(credit=Msat(4_000)), trial=None)
    yield AccountSettlement(Journal(database, group), policy)
    await group.close()


async def states(database):
    return [row["state"] for row in await database.fetch_all("SELECT state FROM job ORDER BY rowid")]


async def test_jobs_that_come_at_once_never_hold_more_than_the_credit_together(settlement, database):
    decisions = await asyncio.gather(*(settlement.take(job(str(number))) for number in range(3)))
    assert decisions == [Run(Basis.CREDIT), Run(Basis.CREDIT), AskTopUp(Msat(2_000))]
    assert await states(database) == ["queued", "queued", "awaiting_funds"]


async def test_a_job_that_comes_twice_at_once_is_taken_on_once(settlement, database):
    decisions = await asyncio.gather(*(settlement.take(job(text)) for text in ("a", "b", "a")))
    assert decisions == [Run(Basis.CREDIT), Run(Basis.CREDIT), None]
    assert await states(database) == ["queued", "queued"]


async def test_results_that_are_signed_at_once_count_on_from_one_to_the_next(settlement, database):
    jobs = [job(text) for text in "ab"]
    await asyncio.gather(*map(settlement.take, jobs))
    events = await asyncio.gather(*(settlement.finish(each, WORK, signed) for each in jobs))
    assert [event.content for event in events] == ["1", "2"]
    rows = await database.fetch_all("SELECT seq, charged_total FROM money_receipt ORDER BY id")
    assert [tuple(row) for row in rows] == [(1, 1_500), (2, 3_000)]
    assert await states(database) == ["signed", "signed"]


async def test_a_result_that_cannot_be_made_costs_nothing_and_hinders_none_beside_it(settlement, database):
    jobs = [job(text) for text in "abc"]

    def fails(receipt):
        raise WireError("too large")

    await asyncio.gather(*map(settlement.take, jobs[:2]))
    outcomes = await asyncio.gather(
        settlement.finish(jobs[0], WORK, fails),
        settlement.finish(jobs[1], WORK, signed),
        settlement.take(jobs[2]),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], WireError)
    assert outcomes[1].content == "1"
    # The first is held still, the second charged.
    assert outcomes[2] == AskTopUp(Msat(2_000))
    assert (await states(database))[:2] == ["queued", "signed"]
    rows = await database.fetch_all("SELECT job FROM money_receipt")
    assert [row["job"] for row in rows] == [jobs[1].id]


async def test_what_was_let_go_long_ago_is_forgotten_and_what_is_held_never(settlement, database):
    # Both came at second 1.
    held, let_go = job("held"), job("let go")
    await settlement.take(held)
    await settlement.take(let_go)
    await settlement.end(let_go.id, JobState.FAILED, code="", finished_at=2.0)

    async def holds():
        return {row["job"] for row in await database.fetch_all("SELECT job FROM money_hold")}

    await settlement.forget(before=1.0)
    assert await holds() == {held.id, let_go.id}
    await settlement.forget(before=2.0)
    assert await holds() == {held.id}


# --- work that has become free ------------------------------------------------------------------------------------


def left(job: Job) -> Job:
    """The job as the process after takes it up."""
    return replace(job, left=True)


async def finished(settlement, job):
    """The receipt that a result goes out with."""
    given = []

    def sign(receipt):
        given.append(receipt)
        return KEY.sign(EventDraft(6940, "text", created_at=1))

    await settlement.finish(job, WORK, sign)
    return given[-1]


@pytest.fixture
def free(settlement):
    """The same provider after a restart, serving for free from now on."""
    return FreeSettlement(settlement._journal)


async def holds(database):
    return [tuple(row) for row in await database.fetch_all("SELECT basis, state FROM money_hold")]


async def test_what_was_taken_on_for_a_price_before_work_became_free_costs_that_and_holds_nothing(
    settlement, free, database
):
    runs = job("a")
    await settlement.take(runs)
    receipt = await finished(free, left(runs))
    assert (receipt.seq, receipt.charge_msat, receipt.charged_total) == (1, 1_500, 1_500)
    assert await holds(database) == []
    assert await states(database) == ["signed"]


async def test_what_waited_for_a_payment_before_work_became_free_costs_nothing_and_its_receipt_says_so(
    settlement, free, database
):
    jobs = [job(text) for text in "abc"]
    for each in jobs:
        await settlement.take(each)
    assert await states(database) == ["queued", "queued", "awaiting_funds"]
    await free._journal.may_run(jobs[2].id)
    receipts = [await finished(free, left(each)) for each in reversed(jobs)]
    assert [(receipt.seq, receipt.charge_msat) for receipt in receipts] == [(1, 0), (2, 1_500), (3, 1_500)]
    assert await holds(database) == []


async def test_a_trusted_keys_job_of_before_work_became_free_has_its_receipt_and_holds_nothing(
    settlement, free, database
):
    runs = job("a", quote=Msat(0), trusted=True)
    await settlement.take(runs)
    assert await holds(database) == [("metered", "held")]
    assert (await finished(free, left(runs))).charge_msat == 0
    assert await holds(database) == []


async def test_a_job_that_ends_without_a_result_after_work_became_free_lets_its_money_go(settlement, free, database):
    runs = job("a")
    await settlement.take(runs)
    await free.end(runs.id, JobState.EXPIRED, code="expired", finished_at=2.0)
    assert await holds(database) == [("credit", "released")]
    assert await states(database) == ["expired"]
    await free.forget(before=2.0)
    assert await holds(database) == []


@pytest.mark.parametrize("over_a_restart", [False, True])
async def test_free_work_has_no_account_and_no_receipt_over_a_restart_neither(free, database, over_a_restart):
    runs = job("a", quote=FREE.base_msat)
    await free.take(runs)
    assert await finished(free, replace(runs, left=over_a_restart)) is None
    assert await states(database) == ["signed"]
    assert await database.fetch_all("SELECT 1 FROM money_account") == []


# --- work that has become paid ------------------------------------------------------------------------------------


async def test_what_was_taken_on_before_work_became_paid_is_free_and_has_no_receipt(settlement, free, database):
    runs = job("a", quote=FREE.base_msat)
    await free.take(runs)
    assert await finished(settlement, left(runs)) is None
    assert await states(database) == ["signed"]


async def test_what_waited_for_a_payment_until_work_was_free_stays_free_when_work_is_paid_again(
    settlement, free, database
):
    jobs = [job(text) for text in "abc"]
    for each in jobs:
        await settlement.take(each)
    await free._journal.may_run(jobs[2].id)
    assert (await finished(settlement, left(jobs[2]))).charge_msat == 0
    assert await states(database) == ["queued", "queued", "signed"]


@pytest.mark.parametrize("quote", [FREE.base_msat, QUOTE])
async def test_a_job_of_an_earlier_process_that_has_ended_is_not_done_after_all(settlement, database, quote):
    ends = job("a", quote=quote)
    await settlement.take(ends)
    await settlement.end(ends.id, JobState.CANCELLED, code="", finished_at=2.0)
    with pytest.raises(MoneyError):
        await finished(settlement, left(ends))
    assert await states(database) == ["cancelled"]
