import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.money.books.electricity import Ran, Tariff, shares


def test_a_moment_is_divided_among_the_jobs_that_ran_in_it():
    assert shares([Ran("a", 10, 10)]) == {"a": 10}
    assert shares([Ran("a", 10, 10), Ran("b", 10, 10)]) == {"a": 5, "b": 5}
    assert shares([Ran("a", 10, 10), Ran("b", 20, 15)]) == {"a": 7.5, "b": 12.5}
    assert shares([Ran("a", 10, 2), Ran("b", 100, 3)]) == {"a": 2, "b": 3}


def test_a_job_that_did_not_run_took_nothing():
    assert shares([]) == {}
    assert shares([Ran("a", 10, 0)]) == {}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=12))
def test_shares_add_up_to_the_time_in_which_anything_ran(drawn):
    runs = [Ran(str(number), float(end), float(seconds)) for number, (end, seconds) in enumerate(drawn)]
    busy = {moment for end, seconds in drawn for moment in range(end - seconds, end)}
    found = shares(runs)
    assert sum(found.values()) == pytest.approx(len(busy))
    assert all(0 < found[run.job] <= run.seconds + 1e-9 for run in runs if run.seconds)


def test_what_nobody_configured_is_not_said():
    assert (Tariff().kwh(3_600), Tariff().cost(3_600), Tariff().worth(1_000)) == (None, None, None)
    assert Tariff(watts=100).cost(3_600) is None
    assert Tariff(price_per_kwh=0.3).cost(3_600) is None


def test_a_hundred_watts_for_an_hour_are_a_tenth_of_a_kilowatt_hour():
    tariff = Tariff(watts=100, price_per_kwh=0.3, currency="EUR", per_bitcoin=100_000)
    assert tariff.kwh(3_600) == pytest.approx(0.1)
    assert tariff.cost(3_600) == pytest.approx(0.03)
    assert tariff.worth(1_000_000) == pytest.approx(1.0)
