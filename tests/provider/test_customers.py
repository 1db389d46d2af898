"""Whom a provider knows: by jobs that were done, and not by how many keys somebody has."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.provider import customers as module
from pylon.provider.customers import REGULAR_AFTER_S, WASTED, Customers, Standing


def test_a_key_is_recent_with_its_first_job_and_a_regular_when_it_comes_back_much_later():
    customers = Customers()
    assert customers.standing("alice") is Standing.STRANGER
    for now in (0.0, 10.0, REGULAR_AFTER_S - 1):
        customers.served("alice", now)
        assert customers.standing("alice") is Standing.RECENT
    customers.served("alice", REGULAR_AFTER_S)
    assert customers.standing("alice") is Standing.REGULAR
    customers.served("alice", REGULAR_AFTER_S + 1)
    assert customers.standing("alice") is Standing.REGULAR


def test_a_flood_makes_a_provider_forget_who_was_recent_and_no_regular(monkeypatch):
    monkeypatch.setattr(module, "MOST", 100)
    customers = Customers()
    customers.served("regular", 0.0)
    customers.served("regular", REGULAR_AFTER_S)
    customers.served("recent", REGULAR_AFTER_S)
    for number in range(1_000):
        customers.served(f"flood {number}", REGULAR_AFTER_S + number)
    assert customers.standing("regular") is Standing.REGULAR
    assert customers.standing("recent") is Standing.STRANGER


def test_who_takes_back_more_than_it_has_done_is_a_stranger_however_long_it_is_known():
    customers = Customers()
    for now in (0.0, REGULAR_AFTER_S):
        customers.served("alice", now)
    for _ in range(WASTED - 1):
        customers.wasted("alice")
    assert customers.standing("alice") is Standing.REGULAR, "customers have reasons to take something back"
    for _ in range(50):
        customers.wasted("alice")
    assert customers.standing("alice") is Standing.STRANGER
    customers.served("alice", REGULAR_AFTER_S + 1)
    assert customers.standing("alice") is Standing.REGULAR
    customers.wasted("alice")
    assert customers.standing("alice") is Standing.STRANGER, "one job that was done makes up for one"
    assert customers.standing("bob") is Standing.STRANGER
    for _ in range(WASTED):
        customers.served("alice", REGULAR_AFTER_S + 2)
        customers.wasted("alice")
    assert customers.standing("alice") is Standing.STRANGER


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3 * REGULAR_AFTER_S)), max_size=20))
def test_the_next_process_knows_them_as_this_one_does(jobs):
    jobs.sort(key=lambda each: each[1])
    first, last, lived = {}, {}, Customers()
    for customer, now in jobs:
        lived.served(customer, now)
        first.setdefault(customer, now)
        last[customer] = now
    restored = Customers()
    restored.restore([(customer, first[customer], last[customer]) for customer in last])
    for customer in "abc":
        assert restored.standing(customer) is lived.standing(customer)
