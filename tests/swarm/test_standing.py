"""How long a provider is left alone for what it did."""

from collections.abc import Callable

import pytest

from pylon.swarm.dispatch.standing import MISSES, REFUSALS, UNKNOWN_S, Standing
from pylon.swarm.providers.listing import Listing

ENOUGH = 3
QUICK = Listing("a", tokens_in_per_s=1e9, tokens_out_per_s=1e9)


def rests(one: Standing, act: Callable[[float], None], times: int) -> list[float]:
    """For how long it is left alone after each of so many acts, each when the rest before is over."""
    now, found = 0.0, []
    for _ in range(times):
        act(now)
        found.append(max(0.0, one.rests_until - now))
        now = max(now + 1.0, one.rests_until)
    return found


@pytest.mark.parametrize(
    ("act", "first"),
    [
        (lambda one: lambda now: one.missed(now, 1.0, now), MISSES),
        (lambda one: one.refused, REFUSALS),
        (lambda one: lambda now: one.silent(now, now, ENOUGH), ENOUGH),
    ],
    ids=["deadlines", "refusals", "silences"],
)
def test_after_several_in_a_row_it_rests_longer_each_time_and_ten_minutes_at_most(act, first) -> None:
    one = Standing("a")
    found = rests(one, act(one), first + 7)
    assert found == [0.0] * (first - 1) + [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0]


def test_who_claims_to_need_no_time_is_believed_once_that_was_seen() -> None:
    one = Standing("a", QUICK)
    assert one.seconds(1_000, 100) == UNKNOWN_S / 4
    one.answered(1, 0.01)
    assert one.seconds(1_000, 100) == 0.01


def test_a_busy_one_pauses_for_seconds_when_nothing_is_in_flight_there() -> None:
    one = Standing("a")
    assert rests(one, one.was_busy, 7) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 32.0]
    other = Standing("b", in_flight=3, limit=8)
    assert rests(other, other.was_busy, 1) == [0.0] and other.limit == 3


def test_one_that_has_fewer_slots_than_it_had_and_says_that_it_is_busy_gets_no_more_than_those() -> None:
    one = Standing("a", in_flight=4)
    one.update(Listing("a", slots=1), 1.5)
    one.was_busy(0.0)
    assert one.limit == 2 and not one.has_room(0.0)


def test_silences_of_requests_that_were_out_together_count_as_one() -> None:
    one = Standing("a")
    for _ in range(9):
        one.silent(10.0, 5.0, ENOUGH)
    assert one.silences == 1
    one.silent(20.0, 10.0, ENOUGH)
    assert one.silences == 2


def test_an_answer_makes_good_for_all_that_was_missed_or_refused() -> None:
    one = Standing("a")
    for _ in range(MISSES - 1):
        one.missed(0.0, 1.0, 0.0)
    for _ in range(REFUSALS - 1):
        one.refused(0.0)
    one.answered(1, 1.0)
    one.missed(0.0, 1.0, 0.0)
    one.refused(0.0)
    assert one.rests_until < 0.0


def test_deadlines_of_requests_that_were_out_together_are_missed_once() -> None:
    one = Standing("a")
    for _ in range(9):
        one.missed(70.0, 60.0, 10.0)
    assert (one.misses, one.rests(70.0)) == (1, False)
    one.missed(130.0, 60.0, 70.0)
    assert (one.misses, one.rests_until) == (2, 160.0)


@pytest.mark.parametrize(
    ("act", "times", "why"),
    [
        (lambda one, now: one.missed(now, 1.0, now), MISSES, "failed or did not answer, 2 times in a row"),
        (lambda one, now: one.refused(now), REFUSALS, "refused what it was sent, 5 times in a row"),
        (
            lambda one, now: one.silent(now, now, ENOUGH),
            ENOUGH,
            "did not react to what it was sent, 3 times in a row",
        ),
        (lambda one, now: one.was_busy(now), 1, "said that it is busy"),
    ],
)
def test_who_rests_does_so_for_the_reason_that_lasts_longest(act, times, why) -> None:
    one = Standing("a")
    for now in range(times):
        act(one, float(now))
    assert (one.rests(times - 1.0), one.rests_for) == (True, why)
    one.rests_until = 1e6
    one.was_busy(2.0)
    assert one.rests_for == why
