"""Live caps: three numbers that a person types, and what follows from them."""

import random
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import UsageError
from pylon.money.limits import PLAY_CAPS, Spend, Used, allow
from pylon.money.msat import Msat
from pylon.money.payments.agreed import FIRST, MOST, Agreed

sats = Msat.from_sats


def agreed(payment: int, day: int, total: int) -> Agreed | None:
    try:
        return Agreed(payment, day, total)
    except UsageError:
        return None


SOME = (
    st.tuples(st.integers(1, MOST.payment), st.integers(1, MOST.day), st.integers(1, MOST.all))
    .map(lambda three: agreed(*three))
    .filter(lambda made: made is not None)
)


def test_the_first_caps_are_small_and_have_the_other_limits_in_proportion():
    caps = FIRST.caps
    assert (caps.payment, caps.day, caps.all) == (sats(50), sats(500), sats(5_000))
    assert (caps.fee, caps.job, caps.provider, caps.hour, caps.run) == tuple(map(sats, (2, 52, 200, 200, 500)))
    assert caps.in_flight == PLAY_CAPS.in_flight == 20


@given(SOME)
def test_a_payment_of_the_largest_size_passes_with_its_fee(made):
    caps = made.caps
    assert allow(caps, Used(), Spend(caps.payment, caps.fee, "j", "p", "r")) is None


@given(SOME, st.randoms(use_true_random=False))
def test_whatever_is_paid_stays_within_what_was_agreed(made, rng: random.Random):
    caps, hour, day, total = made.caps, 0, 0, 0
    for number in range(60):
        if rng.random() < 0.2:
            hour = 0
        if rng.random() < 0.1:
            hour = day = 0
        amount = sats(rng.randint(1, min(2 * made.payment, MOST.payment)))
        spend = Spend(amount, caps.fee, f"j{number}", "p", "r")
        if allow(caps, Used(hour=Msat(hour), day=Msat(day), all=Msat(total)), spend) is None:
            assert amount <= sats(made.payment)
            hour, day, total = (used + int(amount) + int(caps.fee) for used in (hour, day, total))
        assert hour <= day <= sats(made.day)
        assert total <= sats(made.all)


@given(SOME, SOME)
def test_more_that_is_agreed_lowers_no_limit(less, other):
    more = Agreed(**{name: max(value, other.as_dict()[name]) for name, value in less.as_dict().items()})
    after = asdict(more.caps)
    assert all(after[name] >= value for name, value in asdict(less.caps).items())


@given(st.integers(), st.integers(), st.integers())
def test_no_caps_beyond_the_ceiling_can_be_made(payment, day, total):
    made = agreed(payment, day, total)
    if made is not None:
        assert 0 < made.payment < made.day <= made.all
        assert all(value <= MOST.as_dict()[name] for name, value in made.as_dict().items())


@pytest.mark.parametrize("wrong", [True, 50.0, "50", None, 0, -1, MOST.payment + 1])
def test_a_cap_is_a_whole_number_of_sats(wrong):
    with pytest.raises(UsageError, match="`payment` must be a whole number"):
        Agreed(wrong, 500, 5_000)


@pytest.mark.parametrize(("payment", "day", "total"), [(50, 51, 5_000), (50, 500, 499)])
def test_caps_that_do_not_fit_together_are_refused(payment, day, total):
    with pytest.raises(UsageError, match="do not fit together") as caught:
        Agreed(payment, day, total)
    assert "52 sat" in caught.value.hint
