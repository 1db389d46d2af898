from hypothesis import given
from hypothesis import strategies as st

from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.msat import ZERO
from pylon.nostr.event import Event
from pylon.provider.admission import Accept
from pylon.provider.customers import Standing
from pylon.provider.queue import Job, JobQueue
from pylon.provider.refusal_budget import RefusalBudget, RefusalLimits


def job(
    name: str,
    customer: str = "c",
    *,
    expires_at: int = 100,
    trusted: bool = False,
    standing: Standing = Standing.STRANGER,
) -> Job:
    request = ReceivedRequest(name, customer, 0, JobRequest("prompt"), True, ("p",))
    event = Event(name, customer, 0, 5940, (), "", "")
    return Job(request, event, Accept(ZERO, expires_at, "m", 8), 0.0, "ws://r", trusted, standing)


def order(queue: JobQueue) -> list[str]:
    popped = []
    while (next_ := queue.pop()) is not None:
        popped.append(next_.id)
    return popped


def test_customers_take_turns_and_each_keeps_its_order():
    queue = JobQueue()
    for name, customer in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")]:
        queue.push(job(name, customer))
    assert order(queue) == ["a1", "b1", "a2", "b2", "a3"]


def test_trusted_keys_go_first():
    queue = JobQueue()
    queue.push(job("stranger", "a"))
    queue.push(job("own", "b", trusted=True))
    assert order(queue) == ["own", "stranger"]


def test_expired_jobs_are_taken_out():
    queue = JobQueue()
    queue.push(job("late", expires_at=10))
    queue.push(job("early", expires_at=20))
    assert [expired.id for expired in queue.take_expired(10)] == ["late"]
    assert order(queue) == ["early"]


@given(st.integers(1, 300), st.integers(1, 20))
def test_a_known_customer_waits_for_one_stranger_a_job_however_many_there_are(strangers, jobs):
    queue = JobQueue()
    for number in range(strangers):
        queue.push(job(f"s{number}", f"stranger {number}"))
    for number in range(jobs):
        queue.push(job(f"k{number}", "known", standing=Standing.RECENT))
    assert queue.in_line(Standing.STRANGER) == (strangers, strangers)
    assert queue.in_line(Standing.RECENT) == (jobs, 1)
    done = order(queue)
    for number in range(jobs):
        assert done.index(f"k{number}") <= 2 * number + 1
    # Nor does a customer with many jobs keep strangers from theirs.
    assert all(done.index(f"s{number}") <= 2 * number for number in range(strangers))


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["push", "push", "pop"]))),
    st.integers(1, 8),
    st.sampled_from("abcde"),
    st.lists(st.sampled_from(Standing), min_size=5, max_size=5),
)
def test_what_a_job_waits_follows_from_how_many_have_their_turn_before_it(steps, slots, owner, standings):
    queue, inside = JobQueue(), []
    known_as = dict(zip("abcde", standings, strict=True))
    for number, (customer, step) in enumerate(steps):
        if step == "push":
            inside.append(f"j{number}")
            queue.push(job(inside[-1], customer, trusted=customer == owner, standing=known_as[customer]))
        elif (popped := queue.pop()) is not None:
            inside.remove(popped.id)
    told = {name: queue.wait_s(name, slots, 2.0) for name in inside}
    assert told == {name: (place + 0.5) / slots * 2.0 for place, name in enumerate(order(queue))}


@given(st.lists(st.integers(0, 120), min_size=1, max_size=300))
def test_among_many_customers_it_is_a_guess_that_is_never_longer_than_all_that_wait(customers):
    queue = JobQueue()
    for number, customer in enumerate(customers):
        queue.push(job(f"j{number}", f"c{customer}"))
    told = [queue.wait_s(f"j{number}", 1, 1.0) for number in range(len(customers))]
    assert all(0.5 <= wait <= len(customers) - 0.5 for wait in told)
    # Whoever comes first waits for one job of each other at the most.
    assert all(
        queue.wait_s(f"j{customers.index(one)}", 1, 1.0) <= len(set(customers)) - 0.5 for one in set(customers)
    )


def test_a_job_that_is_not_in_the_queue_does_not_wait():
    assert JobQueue().wait_s("gone", 4, 2.0) == 0.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from(["push", "pop", "remove"]))))
def test_every_job_comes_out_exactly_once(steps):
    queue, inside, out = JobQueue(), [], []
    for number, (customer, trusted, step) in enumerate(steps):
        if step == "push":
            queue.push(job(f"j{number}", customer, trusted=trusted))
            inside.append(f"j{number}")
        else:
            taken = queue.pop() if step == "pop" else queue.remove(inside[0]) if inside else None
            assert (taken is None) == (not inside)
            if taken is not None:
                inside.remove(taken.id)
                out.append(taken.id)
        assert len(queue) == len(inside)
        assert sum(queue.of_customer(c) for c in "abc") == len(inside)
    out += order(queue)
    assert len(out) == len(set(out)) == sum(step == "push" for *_, step in steps)


def test_refusals_for_one_key_run_out_and_come_back_with_time():
    budget = RefusalBudget(RefusalLimits(burst=2, per_s=1, total_burst=100, total_per_s=100))
    assert [budget.allow("k", 0.0) for _ in range(3)] == [True, True, False]
    assert budget.allow("other", 0.0)
    assert budget.allow("k", 1.0)


def test_many_keys_share_one_budget():
    budget = RefusalBudget(RefusalLimits(burst=10, per_s=10, total_burst=5, total_per_s=0))
    assert sum(budget.allow(f"k{n}", 0.0) for n in range(100)) == 5
