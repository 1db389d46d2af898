"""Payment gate and runner as one: who has a job, how many there are, and who is told when one is taken back."""

from types import SimpleNamespace

import pytest

from pylon.jobs.cancel import cancel_draft
from pylon.money.accounts.account import Basis, Run
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider.customers import Standing
from pylon.provider.queue import JobQueue
from pylon.provider.rows import JobState
from pylon.provider.work.active_jobs import ActiveJobs

US, ALICE, BOB = (SecretKey(bytes(31) + bytes([n])).public for n in (7, 8, 9))
CUSTOMER = SecretKey(bytes(31) + b"\x08")


def job(number: int, customer: str = ALICE):
    request = SimpleNamespace(customer=customer, id=f"{number:064x}")
    terms = SimpleNamespace(expires_at=1e9)
    return SimpleNamespace(id=request.id, request=request, trusted=False, standing=Standing.STRANGER, terms=terms)


class Runner:
    """A stand-in with the queue of the real one, that takes jobs and lets them go."""

    def __init__(self, said: list) -> None:
        self.queue, self.running, self.said = JobQueue(), {}, said

    def add(self, job) -> None:
        self.said.append(("run", job.id))

    def say_again(self, job_id) -> None:
        self.said.append(("runner says again", job_id))

    async def cancel(self, job_id, customer) -> None:
        self.said.append(("runner lets go", job_id, customer))


class PaymentGate:
    """A stand-in with one job of Alice's that waits for its payment."""

    down, waiting = False, 1

    def __init__(self, said: list) -> None:
        self.said, self.fails_for = said, ""

    def of_customer(self, customer: str) -> int:
        return int(customer == ALICE)

    def has(self, job_id: str) -> bool:
        return job_id == job(1).id

    async def handle(self, job, decision) -> None:
        self.said.append(("decided", job.id, decision))

    def say_again(self, job_id) -> None:
        self.said.append(("gate says again", job_id))

    async def restore(self, job) -> None:
        self.said.append(("waits", job.id))

    async def cancel(self, job_id, customer) -> None:
        if job_id == self.fails_for:
            raise RuntimeError("a bug")
        self.said.append(("gate lets go", job_id, customer))


class Both:
    def __init__(self, *, paid: bool = True) -> None:
        self.said: list = []
        self.runner = Runner(self.said)
        self.payment_gate = PaymentGate(self.said) if paid else None
        self.active_jobs = ActiveJobs(payment_gate=self.payment_gate, runner=self.runner)


@pytest.fixture
def both():
    return Both()


def test_whoever_has_a_job_says_again_how_that_stands(both):
    for number in (1, 2):
        both.active_jobs.say_again(job(number).id)
    assert both.said == [("gate says again", job(1).id), ("runner says again", job(2).id)]


def test_jobs_that_wait_for_money_the_engine_or_are_run_all_count_and_each_once(both):
    both.runner.queue.push(job(2))
    both.runner.queue.push(job(3, BOB))
    both.runner.running[job(4).id] = SimpleNamespace(job=job(4))
    assert both.active_jobs.unpaid == 1
    assert (both.active_jobs.paid_of(ALICE), both.active_jobs.paid_of(BOB)) == (2, 1)
    assert (both.active_jobs.unpaid_of(ALICE), both.active_jobs.unpaid_of(BOB)) == (1, 0)
    assert [both.active_jobs.has(job(n).id) for n in range(1, 6)] == [True, True, True, True, False]


def test_where_work_is_free_nothing_waits_for_money_and_no_wallet_is_down():
    free = Both(paid=False).active_jobs
    assert (free.takes_payment, free.unpaid, free.unpaid_of(ALICE), free.wallet_down) == (False, 0, 0, False)
    assert not free.has(job(1).id) and free.paid_of(ALICE) == 0


def test_the_wallet_is_down_when_the_till_says_so(both):
    assert both.active_jobs.takes_payment and not both.active_jobs.wallet_down
    both.payment_gate.down = True
    assert both.active_jobs.wallet_down


async def test_a_new_job_is_the_till_s_to_decide_on_where_there_is_one_and_runs_otherwise(both):
    decision = Run(Basis.METERED)
    await both.active_jobs.take(job(2), decision)
    assert both.said == [("decided", job(2).id, decision)]
    free = Both(paid=False)
    await free.active_jobs.take(job(2), decision)
    assert free.said == [("run", job(2).id)]


async def test_a_job_of_an_earlier_process_goes_where_it_was_and_runs_where_work_has_become_free(both):
    await both.active_jobs.restore(job(2), JobState.AWAITING_FUNDS)
    await both.active_jobs.restore(job(3), JobState.QUEUED)
    assert both.said == [("waits", job(2).id), ("run", job(3).id)]
    free = Both(paid=False)
    await free.active_jobs.restore(job(2), JobState.AWAITING_FUNDS)
    assert free.said == [("run", job(2).id)]


async def test_a_cancellation_is_its_author_s_and_the_till_hears_of_each_job_before_the_runner(both):
    both.runner.queue.push(job(2))
    event = CUSTOMER.sign(cancel_draft((job(1).id, job(3).id, job(2).id), 5940, US, created_at=1))
    assert await both.active_jobs.take_back(event) == [(ALICE, job(3).id)]
    assert both.said == [
        (who, one.id, ALICE) for one in (job(1), job(2)) for who in ("gate lets go", "runner lets go")
    ]


async def test_a_job_that_cannot_be_let_go_keeps_no_other_from_it(both):
    both.payment_gate.fails_for = job(1).id
    both.runner.queue.push(job(2))
    await both.active_jobs.take_back(CUSTOMER.sign(cancel_draft((job(1).id, job(2).id), 5940, US, created_at=1)))
    assert both.said == [("gate lets go", job(2).id, ALICE), ("runner lets go", job(2).id, ALICE)]


async def test_a_deletion_that_names_no_job_is_passed_over(both):
    await both.active_jobs.take_back(CUSTOMER.sign(EventDraft(5, "", (("k", "5940"),), 1)))
    assert both.said == []
