import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MoneyError
from pylon.money.msat import MAX_MSAT, ZERO, Msat
from pylon.money.price import FREE, MAX_TOKENS, Price

RATES = st.integers(0, 10**9).map(Msat)
TOKENS = st.integers(0, 10**6)


def test_a_price_is_base_and_rates():
    price = Price(Msat(500), Msat(100), Msat(400))
    assert price.charge(2_000, 1_000) == 500 + 200 + 400


def test_a_fraction_of_a_msat_is_rounded_up_once():
    price = Price(Msat(0), Msat(1), Msat(1))
    assert price.charge(1, 0) == 1
    assert price.charge(500, 500) == 1
    assert price.charge(500, 501) == 2


@given(st.builds(Price, RATES, RATES, RATES), TOKENS, TOKENS, TOKENS)
def test_a_charge_within_the_tokens_is_never_above_the_quote(price, prompt, used, spare):
    assert price.charge(prompt, used) <= price.quote(prompt, used + spare)


@given(TOKENS, TOKENS)
def test_free_costs_nothing(prompt, completion):
    assert FREE.is_free
    assert FREE.charge(prompt, completion) == 0


def test_a_price_at_which_a_job_could_cost_more_than_there_is_is_none():
    for rates in ((Msat(MAX_MSAT), Msat(1)), (ZERO, Msat(MAX_MSAT)), (ZERO, ZERO, Msat(MAX_MSAT // 1_000_000 + 1))):
        with pytest.raises(MoneyError):
            Price(*rates)
    assert Price(ZERO, ZERO, Msat(MAX_MSAT // 1_000_000)).quote(MAX_TOKENS, MAX_TOKENS) <= MAX_MSAT


def test_any_rate_at_all_is_not_free():
    assert not Price(out_msat_per_1k=Msat(1)).is_free


@pytest.mark.parametrize("count", [-1, 1.0, True, "1", MAX_TOKENS + 1])
def test_other_things_than_token_counts_are_refused(count):
    with pytest.raises(MoneyError):
        Price().charge(count, 0)
    with pytest.raises(MoneyError):
        Price().charge(0, count)
