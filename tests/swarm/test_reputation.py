"""What is remembered of a provider, and what follows from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.checks import reputation as reputations
from pylon.swarm.checks.reputation import (
    ALONE_ENOUGH,
    ANSWERED_S,
    DAY_S,
    FIRST_OUT_S,
    FORGIVEN,
    HALF_LIFE_S,
    LONGEST_OUT_S,
    NEWCOMER_WIDTH,
    PROVEN,
    REASONS,
    SAMPLED,
    SELDOM,
    SETTLED,
    WELL_KNOWN,
    Reputation,
    Seen,
    why,
)
from pylon.swarm.circle import Circle

P = "p"


def after(*seen: Seen, at: float = 0.0) -> Reputation:
    found = Reputation()
    for one in seen:
        found.note(P, one, at)
    return found


def passed(times: int) -> tuple[Seen, ...]:
    return (Seen.PASSED,) * times


def test_three_passed_checks_in_a_row_prove_a_provider_and_two_do_not() -> None:
    assert after(*passed(PROVEN - 1)).width(P, 0.0) == NEWCOMER_WIDTH
    assert after(*passed(PROVEN)).width(P, 0.0) is None
    assert after(*passed(PROVEN), Seen.LOST, *passed(PROVEN - 1)).width(P, 0.0) == NEWCOMER_WIDTH


def test_who_was_alone_is_proven_by_ten_believable_answers_and_by_no_number_of_them_after_a_bad_one() -> None:
    alone = (Seen.ALONE,) * ALONE_ENOUGH
    assert after(*alone[1:]).width(P, 0.0) == NEWCOMER_WIDTH
    assert after(*alone).width(P, 0.0) is None
    assert after(Seen.DOUBTFUL, *alone, *alone).width(P, 0.0) == NEWCOMER_WIDTH


def test_who_answered_counts_as_answering_for_two_weeks_whatever_was_checked_and_is_trusted_no_more_for_it() -> None:
    found = Reputation()
    found.answered(P, 10.0)
    assert found.has_answered(P, 10.0 + ANSWERED_S)
    assert not found.has_answered(P, 11.0 + ANSWERED_S)
    assert (found.trust(P), found.width(P, 10.0)) == (Reputation().trust(P), NEWCOMER_WIDTH)
    assert not found.was_checked(P)
    assert not after(*passed(PROVEN)).has_answered(P, 0.0)


def test_a_thousand_answers_within_the_hour_are_written_once() -> None:
    found = Reputation()
    for second in range(1_000):
        found.answered(P, 10.0 + second)
        assert len(found.take_changed()) == (second == 0)


def test_who_answers_is_told_the_latest_first_without_who_is_left_out() -> None:
    found = Reputation()
    for at, provider in enumerate(("early", "late", "liar", "early")):
        found.answered(provider, 1.0 + 4_000.0 * at)
    found.note("liar", Seen.FORGED, 16_000.0)
    found.note("never", Seen.FAULTY, 16_000.0)
    assert list(found.answering(16_000.0)) == ["early", "late"]


def test_being_alone_earns_no_trust_and_counts_as_no_check() -> None:
    lonely = after(*(Seen.ALONE,) * ALONE_ENOUGH)
    assert lonely.trust(P) == 0.5
    assert not lonely.was_checked(P)
    assert lonely.check_share(P, 0) == 1.0


@pytest.mark.parametrize(
    ("times", "trust"), [(0, 0.5), (PROVEN - 1, 0.5), (PROVEN, 0.8), (SETTLED - 1, 0.8), (SETTLED, 1.0)]
)
def test_trust_grows_in_steps_with_checks_that_passed_in_a_row(times: int, trust: float) -> None:
    assert after(*passed(times)).trust(P) == trust


def test_a_failure_takes_trust_until_ten_checks_have_passed_since() -> None:
    for since in range(SETTLED + 1):
        found = after(*passed(30), Seen.LOST, *passed(since))
        assert found.is_suspect(P) is (since < SETTLED)
        assert found.trust(P) < 1.0
    # Each failure weighs as much as four that passed, and one is given in advance.
    assert after(*passed(3), Seen.LOST, *passed(SETTLED)).trust(P) == 14 / 18
    assert after(Seen.LOST).trust(P) == 1 / 5


def test_a_stranger_that_fails_a_whole_check_or_two_halves_is_out_and_a_proven_one_with_one_more() -> None:
    for seen, out in (
        ((Seen.LOST,), True),
        ((Seen.FORGED,), True),
        ((Seen.FAULTY,), False),
        ((Seen.FAULTY, Seen.DOUBTFUL), True),
        ((*passed(PROVEN), Seen.LOST), False),
        ((*passed(PROVEN), Seen.LOST, Seen.LOST), True),
        # What was passed counts, in a row or not.
        ((*passed(PROVEN), Seen.FAULTY, Seen.FAULTY), False),
    ):
        assert after(*seen).is_out(P, 1.0) is out, seen
        assert after(*seen).width(P, 1.0) == (0 if out else after(*seen).width(P, 1.0))


def test_that_a_provider_is_out_is_said_once() -> None:
    found = Reputation()
    assert [found.note(P, Seen.LOST, 0.0) for _ in range(3)] == [True, False, False]


def test_who_is_caught_is_out_for_a_day_and_twice_as_long_each_time_and_a_month_at_most() -> None:
    found, at, lasted = Reputation(), 0.0, []
    for _ in range(7):
        while not found.note(P, Seen.FORGED, at):
            pass
        record = found.get(P)
        assert record is not None
        lasted.append(record.out_until - at)
        assert found.is_out(P, record.out_until - 1) and not found.is_out(P, record.out_until)
        at = record.out_until
    assert lasted == [min(FIRST_OUT_S * 2**n, LONGEST_OUT_S) for n in range(7)]
    assert lasted[-1] == LONGEST_OUT_S == 30 * DAY_S


def test_what_was_seen_counts_half_after_two_weeks_and_nothing_is_older_than_its_clock() -> None:
    found = after(*passed(4), Seen.ALONE, Seen.ALONE)
    record = found.get(P)
    assert record is not None
    record.fade(-HALF_LIFE_S)
    assert (record.passed, record.alone) == (4.0, 2.0)
    record.fade(HALF_LIFE_S)
    assert (record.passed, record.alone) == pytest.approx((2.0, 1.0))
    record.fade(HALF_LIFE_S)
    assert record.passed == pytest.approx(2.0), "once for each stretch of time"


def test_so_many_passed_checks_in_a_row_make_up_for_one_that_failed() -> None:
    record = after(*passed(PROVEN), Seen.LOST, *passed(FORGIVEN - 1)).get(P)
    assert record is not None and record.bad == 1.0
    record = after(*passed(PROVEN), Seen.LOST, *passed(FORGIVEN)).get(P)
    assert record is not None and record.bad == 0.0


def test_every_answer_is_checked_until_forty_have_passed_and_samples_after_that() -> None:
    assert after(*passed(WELL_KNOWN - 1)).check_share(P, 1_000) == 1.0
    known = after(*passed(WELL_KNOWN))
    assert known.check_share(P, 0) == known.check_share(P, int(SELDOM)) == SAMPLED
    assert known.check_share(P, int(3 * SELDOM)) == pytest.approx(3 * SAMPLED)


def test_a_pardon_takes_back_one_lost_comparison_its_reason_and_that_it_is_out_because_of_it() -> None:
    found = after(Seen.LOST)
    found.pardon(P)
    record = found.get(P)
    assert record is not None
    assert (record.bad, record.reasons, record.offences, found.is_out(P, 0.0)) == (0.0, [], 0, False)
    # A first time once more.
    assert found.note(P, Seen.LOST, 0.0) and found.is_out(P, FIRST_OUT_S - 1) and not found.is_out(P, FIRST_OUT_S)


def test_a_pardon_leaves_what_else_was_seen_and_whom_that_keeps_out() -> None:
    found = Reputation()
    for seen in (Seen.FORGED, Seen.LOST):
        found.note(P, seen, 0.0)
    found.pardon(P)
    record = found.get(P)
    assert record is not None
    assert ([one.seen for one in record.reasons], record.bad, found.is_out(P, 0.0)) == ([Seen.FORGED], 1.0, True)


def test_a_pardon_of_somebody_of_whom_nothing_bad_is_known_changes_nothing() -> None:
    found = after(Seen.PASSED)
    found.take_changed()
    found.pardon(P)
    found.pardon("nobody")
    assert found.take_changed() == [] and found.get("nobody") is None


def test_one_s_own_machines_are_trusted_and_never_looked_at() -> None:
    found = Reputation()
    found.circle = Circle(frozenset({P}))
    assert not found.note(P, Seen.FORGED, 0.0)
    assert found.get(P) is None
    assert (found.trust(P), found.width(P, 0.0), found.check_share(P, 10**6)) == (1.0, None, 0.0)
    assert found.was_checked(P) and found.is_proven(P) and not found.is_suspect(P)


def test_the_latest_reasons_are_kept_and_good_news_is_none() -> None:
    found = Reputation()
    for number in range(REASONS + 5):
        found.note(P, Seen.PASSED, 0.0)
        found.note(P, Seen.FAULTY, 0.0, f"fault {number}")
    record = found.get(P)
    assert record is not None
    assert [one.detail for one in record.reasons] == [f"fault {number}" for number in range(5, REASONS + 5)]


def test_of_whom_nothing_was_seen_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reputations, "REMEMBERED", 2)
    found = Reputation()
    for at, provider in enumerate("abac"):
        found.note(provider, Seen.PASSED, float(at))
    assert [found.get(one) is not None for one in "abc"] == [True, False, True]
    assert {record.provider for record in found.take_changed()} == {"a", "c"}
    assert (found.take_forgotten(), found.take_forgotten(), found.take_changed()) == (["b"], [], [])
    again = Reputation([record for one in "ac" if (record := found.get(one))][::-1])
    again.note("d", Seen.PASSED, 9.0)
    assert again.get("a") is None and again.get("c") is not None


@given(st.lists(st.sampled_from(Seen), max_size=60))
def test_trust_is_a_share_and_whoever_is_out_gets_nothing(seen: list[Seen]) -> None:
    found = after(*seen)
    assert 0.0 < found.trust(P) <= 1.0
    assert (found.width(P, 0.0) == 0) is found.is_out(P, 0.0)


def test_a_person_reads_how_a_provider_stands() -> None:
    assert why(after(Seen.LOST).get(P), 0.0, own=True) == [
        "one of your own: it gets as many jobs as it has slots, and its answers are not checked"
    ]
    assert why(None, 0.0) == ["unknown so far: it gets two jobs at a time, and its answers are checked"]
    found = after(Seen.FAULTY, Seen.LOST)
    lines = why(found.get(P), 3_600.0)
    assert lines[2] == "excluded for 23.0 h more, for offence number 1"
    assert [line.split(":")[0] for line in lines[3:]] == ["1.0 h ago", "1.0 h ago"]
    assert why(after(Seen.PASSED).get(P), 0.0)[2:] == [
        "gets two jobs at a time until three of its answers have passed a check"
    ]


def test_what_was_seen_while_the_date_was_a_year_ahead_excludes_nobody_until_then_and_stands_for_no_answer() -> None:
    found = after(Seen.LOST, at=365 * DAY_S)
    found.answered(P, 365 * DAY_S)
    assert found.is_out(P, 365 * DAY_S)
    assert not found.is_out(P, 10.0) and not found.has_answered(P, 10.0)
    found.answered(P, 10.0)
    assert found.has_answered(P, 10.0)
    # The next offence counts, and for twice as long.
    assert found.note(P, Seen.LOST, 10.0) and found.is_out(P, 10.0 + 2 * FIRST_OUT_S - 1)


def test_an_exclusion_lasts_though_the_clock_is_set_back_some_hours() -> None:
    assert after(Seen.LOST, at=10 * DAY_S).is_out(P, 10 * DAY_S - 3 * 3_600)
