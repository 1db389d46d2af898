"""Who is admitted when strangers fill a provider's queue: the decider alone, with the real queue."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pylon.jobs.codes import ErrorCode
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.msat import ZERO
from pylon.provider.admission import Accept, Load, crowded
from pylon.provider.customers import Standing
from pylon.provider.queue import Job, JobQueue
from pylon.provider.settings import ProviderSettings

SETTINGS = ProviderSettings(max_queue=40, max_customers=8)
KNOWN = {"recent": Standing.RECENT, "regular": Standing.REGULAR}


class Provider:
    """A queue and its door. Every request is admitted or refused: there is no third way."""

    def __init__(self, settings: ProviderSettings = SETTINGS) -> None:
        self.settings, self.queue, self.number = settings, JobQueue(), 0
        self.waiting: Counter[str] = Counter()
        self.done: list[str] = []

    def asks(self, customer: str) -> ErrorCode | None:
        standing = KNOWN.get(customer, Standing.STRANGER)
        jobs, customers = self.queue.in_line(standing)
        load = Load((), standing=standing, waiting=jobs, others=customers, of_customer=self.waiting[customer])
        refused = crowded(self.settings, load)
        if refused is not None:
            assert refused.reason
            return refused.code
        self.number += 1
        request = ReceivedRequest(str(self.number), customer, 0, JobRequest("prompt"), True, ("p",))
        self.queue.push(Job(request, None, Accept(ZERO, 100, "m", 8), 0.0, "ws://r", standing=standing))
        self.waiting[customer] += 1
        return None

    def works(self) -> None:
        if (job := self.queue.pop()) is not None:
            self.waiting[job.request.customer] -= 1
            self.done.append(job.request.customer)


floods = st.lists(st.integers(0, 60), max_size=300)


@given(floods, st.integers(1, 10))
def test_a_flood_of_strangers_never_refuses_who_is_known_and_delays_its_job_by_one(flood, every):
    provider = Provider()
    for number, key in enumerate(flood):
        assert provider.asks(f"stranger {key}") in (None, ErrorCode.BUSY, ErrorCode.CUSTOMER_LIMIT)
        if number % every == 0:
            for customer in KNOWN:
                assert provider.asks(customer) is None
            began = len(provider.done)
            while any(provider.waiting[customer] for customer in KNOWN):
                provider.works()
            assert len(provider.done) - began <= 4


@given(floods)
def test_a_bounded_number_of_strangers_waits_and_each_for_a_bounded_number_of_turns(flood):
    provider = Provider()
    for key in flood:
        provider.asks(f"stranger {key}")
        jobs, customers = provider.queue.in_line(Standing.STRANGER)
        assert customers <= SETTINGS.max_customers and jobs <= SETTINGS.max_queue
    waiting = [key for key, jobs in provider.waiting.items() if jobs]
    for _ in range(SETTINGS.max_customers):
        provider.works()
    assert set(waiting) <= set(provider.done)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.booleans())
def test_few_keys_with_many_jobs_leave_a_place_for_the_next_stranger(hogs, works):
    provider = Provider()
    for number, key in enumerate(hogs):
        provider.asks(f"hog {key}")
        if works and number % 3 == 0:
            provider.works()
    assert provider.asks("newcomer") is None


def test_a_customer_that_is_alone_may_have_all_that_one_customer_may():
    settings = ProviderSettings()
    load = Load((), waiting=settings.max_per_customer - 1, of_customer=settings.max_per_customer - 1, others=1)
    assert crowded(settings, load) is None


def test_the_last_place_goes_to_who_has_none():
    load = Load((), waiting=39, of_customer=0)
    assert crowded(SETTINGS, load) is None
    assert crowded(SETTINGS, replace(load, of_customer=1)).code is ErrorCode.CUSTOMER_LIMIT
    assert crowded(SETTINGS, replace(load, waiting=40)).code is ErrorCode.BUSY


def test_a_refusal_says_who_waits_and_for_how_long():
    refused = crowded(SETTINGS, Load((), standing=Standing.RECENT, waiting=8, others=8, turn_s=4.2))
    assert refused.reason == "8 other recent customers are waiting here, about 4 s"


def test_whoever_has_a_job_here_may_send_more_though_no_other_customer_may_come():
    load = Load((), waiting=8, others=8)
    assert crowded(SETTINGS, load).code is ErrorCode.BUSY
    assert crowded(SETTINGS, replace(load, of_customer=1)) is None


def test_a_stranger_is_turned_away_when_no_newcomer_may_wait_for_a_payment_unless_a_job_of_its_own_runs():
    refused = crowded(SETTINGS, Load((), of_customer=2, unpaid_of_customer=2, newcomers_full=True))
    assert refused is not None and refused.code is ErrorCode.BUSY
    assert crowded(SETTINGS, Load((), of_customer=3, unpaid_of_customer=2, newcomers_full=True)) is None
