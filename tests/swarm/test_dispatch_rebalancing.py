"""Jobs that are told to wait: they go to somebody idle, and many customers do not turn to one machine."""

from collections import Counter
from typing import Any

import pytest

from pylon.jobs.announcement import OfferedModel
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.swarm.dispatch.messages import (
    Acknowledged,
    Add,
    Answered,
    CancelAttempt,
    Deliver,
    Drop,
    Failure,
    Fund,
    GiveUp,
    Published,
    Refused,
    Send,
    SlotJob,
)
from pylon.swarm.dispatch.rebalancing import MOST_MOVES
from pylon.swarm.dispatch.standing import MISSES
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from tests.swarm.test_dispatch import NEED, Play, provider, sends, slow_tail

QUICK, SLOW = {"tokens_out_per_s": 64.0}, {"tokens_out_per_s": 16.0}


def job(slot: int, **known: object) -> SlotJob:
    return SlotJob(slot, NEED, 120.0, 1e4, 0, 64, **known)  # type: ignore[arg-type]


def crowded(play: Play) -> None:
    """Half of what this customer asked lately came to wait for 20 seconds behind others."""
    play.tell(Add((job(1_000),)))
    play.tell(Drop((1_000,)))
    (lane,) = play.dispatcher._roster.turns
    for _ in range(32):
        lane.figures.waits.add(20.0)
        lane.figures.waits.add(0.0)


def test_a_job_that_would_wait_goes_to_somebody_idle_and_is_taken_back_where_it_was() -> None:
    play = Play(provider("quick", **QUICK), provider("slow", **SLOW))
    (first,) = sends(play.tell(Add((job(0),))))
    assert first.provider == "quick"
    play.tell(Published(first.attempt))
    # A job takes 4 s at the slow one.
    cancel, again = play.tell(Acknowledged(first.attempt, 10.0))
    assert cancel == CancelAttempt(0, first.attempt, "quick")
    assert isinstance(again, Send)
    assert (again.slot, again.provider, again.hedge) == (0, "slow", False)
    assert play.tell(Answered(again.attempt)) == [Deliver(0, again.attempt, 2)]


@pytest.mark.parametrize("wait_s", [None, 0.0, 1.0, 4.0], ids=str)
def test_it_stays_where_it_would_not_be_done_much_sooner_elsewhere(wait_s: float | None) -> None:
    play = Play(provider("quick", **QUICK), provider("slow", **SLOW))
    (first,) = sends(play.tell(Add((job(0),))))
    assert play.tell(Acknowledged(first.attempt, wait_s)) == []


# A job takes 4 s at the slow one and comes after another's there; of one who is not known that counts as up to
# half as long again.
@pytest.mark.parametrize(("wait_s", "moves"), [(10.0, False), (25.0, False), (60.0, True), (500.0, True)], ids=str)
def test_where_nobody_else_is_idle_it_goes_to_who_is_done_in_a_small_part_of_the_time(
    wait_s: float, moves: bool
) -> None:
    play = Play(provider("quick", **QUICK), provider("busy", slots_free=0, **SLOW), provider("paused", paused="x"))
    (first,) = sends(play.tell(Add((job(0),))))
    assert [send.provider for send in sends(play.tell(Acknowledged(first.attempt, wait_s)))] == ["busy"] * moves


def test_it_goes_to_nobody_busy_who_would_have_it_wait_as_long() -> None:
    play = Play(provider("quick", **QUICK), provider("busy", slots_free=0, queue_s=60.0, **SLOW))
    (first,) = sends(play.tell(Add((job(0),))))
    assert play.tell(Acknowledged(first.attempt, 100.0)) == []


def test_a_stranger_who_stands_in_a_line_for_newcomers_goes_where_he_is_a_stranger_too_but_served() -> None:
    # Nobody has had money of ours, and each gives a stranger one job on trial.
    known = {"price": Price(Msat(100)), "network": "play", "funded": lambda: True}
    play = Play(provider("line", **known, **QUICK), provider("busy", slots_free=0, **known, **SLOW))
    (first,) = sends(play.tell(Add((SlotJob(0, Need(bid=Msat(100), network="play"), 120.0, 1e4, 0, 64),))))
    cancel, again = play.tell(Acknowledged(first.attempt, 90.0))
    assert cancel == CancelAttempt(0, first.attempt, "line")
    assert isinstance(again, Send) and again.provider == "busy"
    # It has a line as well: nobody goes round in circles.
    assert play.tell(Acknowledged(again.attempt, 90.0)) == []


def test_an_answer_that_comes_all_the_same_fills_the_slot_and_ends_the_other() -> None:
    play = Play(provider("quick", **QUICK), provider("slow", **SLOW))
    (first,) = sends(play.tell(Add((job(0),))))
    _, again = play.tell(Acknowledged(first.attempt, 10.0))
    assert isinstance(again, Send)
    assert play.tell(Answered(first.attempt)) == [
        CancelAttempt(0, again.attempt, "slow"),
        Deliver(0, first.attempt, 2),
    ]


def test_who_only_looks_idle_is_tried_once_and_then_who_was_seen_to_be() -> None:
    play = Play(*(provider(name, **QUICK) for name in ("a", "b", "c", "d")))
    one, two = (sends(play.tell(Add((job(slot),))))[0] for slot in (0, 1))
    (_, moved) = play.tell(Acknowledged(one.attempt, 30.0))
    assert isinstance(moved, Send)
    # Two more look idle.
    assert play.tell(Acknowledged(moved.attempt, 30.0)) == []
    play.now += 1.0
    deliver, cancel, again = play.tell(Answered(two.attempt))
    assert deliver == Deliver(1, two.attempt, 1)
    assert cancel == CancelAttempt(0, moved.attempt, moved.provider)
    assert isinstance(again, Send) and (again.slot, again.provider) == (0, two.provider)


def test_what_waits_longest_goes_first() -> None:
    play = Play(provider("a", slots=4, **QUICK))
    out = sends(play.tell(Add(tuple(job(slot) for slot in range(3)))))
    for send, wait_s in zip(out, (20.0, 40.0, 30.0), strict=True):
        play.tell(Acknowledged(send.attempt, wait_s))
    play.tell(ProviderUp(provider("b", **QUICK)))
    (last,) = sends(play.tell(Add((job(3, to=("b",)),))))
    assert [send.slot for send in sends(play.tell(Answered(last.attempt)))] == [1]


def test_a_job_moves_only_so_often() -> None:
    names = [f"p{n}" for n in range(8)]
    play = Play(*(provider(name, **QUICK) for name in names))
    (send,) = sends(play.tell(Add((job(0),))))
    moves = 0
    for n in range(1, 8):
        found = [one for one in play.tell(Acknowledged(send.attempt, 50.0)) if isinstance(one, Send)]
        if not found:
            (other,) = sends(play.tell(Add((job(n),))))
            found = [one for one in play.tell(Answered(other.attempt)) if isinstance(one, Send)]
        if found:
            moves, send = moves + 1, found[0]
    assert moves == MOST_MOVES


def test_a_job_for_certain_providers_stays_with_them() -> None:
    play = Play(provider("a", **QUICK), provider("b", **QUICK))
    (first,) = sends(play.tell(Add((job(0, to=("a",)),))))
    (second,) = sends(play.tell(Add((job(1, to=("b",)),))))
    assert play.tell(Acknowledged(first.attempt, 60.0)) == []
    assert play.tell(Answered(second.attempt)) == [Deliver(1, second.attempt, 1)]


@pytest.mark.parametrize(("budget", "moves"), [(100, False), (250, False), (300, True), (None, True)], ids=str)
def test_the_last_of_a_budget_is_not_spent_on_a_job_that_somebody_has(budget: int | None, moves: bool) -> None:
    known = {"price": Price(Msat(100)), "network": "play", "funded": lambda: True}
    play = Play(provider("a", **known, **QUICK), provider("b", **known, **QUICK))
    need = Need(bid=Msat(100), network="play")
    play.tell(Fund(3, budget))
    (first,) = sends(play.tell(Add((SlotJob(0, need, 120.0, 1e4, 0, 64, run=3),))))
    assert bool(play.tell(Acknowledged(first.attempt, 60.0))) is moves


@pytest.mark.parametrize("funded", [True, False])
def test_where_jobs_are_paid_they_go_only_to_who_has_money_or_credit_of_ours(funded: bool) -> None:
    known = {"price": Price(Msat(100)), "network": "play"}
    play = Play(provider("a", **known, **QUICK), provider("b", funded=lambda: funded, **known, **SLOW))
    need = Need(bid=Msat(100), network="play")
    (first,) = sends(play.tell(Add((SlotJob(0, need, 120.0, 1e4, 0, 64),))))
    assert first.provider == "a"
    assert [send.provider for send in sends(play.tell(Acknowledged(first.attempt, 60.0)))] == ["b"] * funded


def test_who_says_that_others_wait_there_is_asked_after_who_is_idle_until_they_are_done() -> None:
    play = Play(provider("quick", slots=4, **QUICK), provider("slow", slots_free=0, **SLOW))
    (first,) = sends(play.tell(Add((job(0),))))
    play.tell(Acknowledged(first.attempt, 20.0))
    play.tell(ProviderUp(provider("slow", slots=4, **SLOW)))
    (second,) = sends(play.tell(Add((job(1),))))
    assert second.provider == "slow"
    play.now += 30.0
    play.tell(Answered(second.attempt))
    play.tell(Refused(first.attempt, None))
    play.tell(ProviderUp(provider("quick", slots=4, **QUICK)))
    (third,) = sends(play.tell(Add((job(2),))))
    assert third.provider == "quick"


def test_ones_own_jobs_there_are_no_reason_to_go_elsewhere() -> None:
    play = Play(provider("a", slots=2, **QUICK))
    out = sends(play.tell(Add(tuple(job(slot) for slot in range(3)))))
    for send in out:
        play.tell(Acknowledged(send.attempt, 0.0 if send.slot < 2 else 1.0))
    standing = play.dispatcher._roster.standing_of("a")
    assert standing.others_until <= play.now


def test_in_a_crowd_all_who_would_be_done_within_the_usual_wait_get_jobs_as_they_are_quick() -> None:
    names = {f"quick{n}": QUICK for n in range(8)} | {f"slow{n}": SLOW for n in range(8)}
    play = Play(*(provider(name, **speed) for name, speed in names.items()))
    alone = sends(play.tell(Add(tuple(job(slot) for slot in range(4)))))
    assert all(send.provider.startswith("quick") for send in alone)
    play.tell(Drop((0, 1, 2, 3)))
    crowded(play)
    went: Counter[str] = Counter()
    for slot in range(2_000, 2_400):
        (send,) = sends(play.tell(Add((job(slot),))))
        went[send.provider.rstrip("0123456789")] += 1
        play.tell(Drop((slot,)))
    # A slow one takes four times as long.
    assert 0.1 < went["slow"] / went["quick"] < 0.5


def test_an_idle_machine_of_ones_own_is_first_in_a_crowd_too() -> None:
    play = Play(*(provider(f"quick{n}", **QUICK) for n in range(8)), provider("own", **SLOW))
    crowded(play)
    play.tell(ProviderUp(provider("own", own=True, **SLOW)))
    for slot in range(2_000, 2_020):
        (send,) = sends(play.tell(Add((job(slot),))))
        assert send.provider == "own"
        play.tell(Drop((slot,)))


def test_a_few_who_only_say_that_there_is_a_crowd_change_nothing() -> None:
    honest = [provider(f"quick{n}", **QUICK) for n in range(20)]
    liars = [provider(f"liar{n}", **QUICK) for n in range(10)]
    play = Play(*honest, *liars, *(provider(f"slow{n}", **SLOW) for n in range(20)))
    for slot in range(60):
        (send,) = sends(play.tell(Add((job(slot),))))
        if send.provider.startswith("liar"):
            (send,) = sends(play.tell(Acknowledged(send.attempt, 1e6)))
        play.tell(Acknowledged(send.attempt))
        play.tell(Drop((slot,)))
        lane = play.dispatcher._roster.turns[0]
        lane.figures.waits.add(0.0)
    went = Counter(send.provider.rstrip("0123456789") for send in sends(play.commands))
    assert went["liar"] > 5 and went["slow"] == 0


def test_a_crowd_is_forgotten_when_answers_come_without_a_wait() -> None:
    play = Play(
        *(provider(f"quick{n}", **QUICK) for n in range(8)), *(provider(f"slow{n}", **SLOW) for n in range(8))
    )
    crowded(play)
    for slot in range(64):
        (send,) = sends(play.tell(Add((job(slot, to=("quick1",)),))))
        play.now += 1.0
        play.tell(Answered(send.attempt))
    later = [sends(play.tell(Add((job(slot),))))[0] for slot in range(100, 108)]
    assert all(send.provider.startswith("quick") for send in later)


def test_an_answer_is_no_reason_to_go_where_others_are_said_to_wait() -> None:
    play = Play(
        provider("a", slots=4, slots_free=4, **QUICK), provider("b", slots=4, slots_free=4, paused="for now", **QUICK)
    )
    (waits,) = sends(play.tell(Add((job(0),))))
    play.tell(Acknowledged(waits.attempt, 60.0))
    play.tell(ProviderUp(provider("b", slots=4, slots_free=4, **QUICK)))
    first, second = sends(play.tell(Add((job(1, to=("b",)), job(2, to=("b",))))))
    play.tell(Acknowledged(second.attempt, 50.0))
    assert play.tell(Answered(first.attempt)) == [Deliver(1, first.attempt, 1)]


def test_an_answer_is_no_reason_to_go_where_it_would_take_as_long() -> None:
    play = Play(provider("a", slots=4, **QUICK))
    (waits,) = sends(play.tell(Add((job(0),))))
    play.tell(Acknowledged(waits.attempt, 5.0))
    play.tell(ProviderUp(provider("b", **SLOW)))
    (other,) = sends(play.tell(Add((job(1, to=("b",)),))))
    assert play.tell(Answered(other.attempt)) == [Deliver(1, other.attempt, 1)]


def test_jobs_that_nobody_has_come_before_those_that_wait() -> None:
    play = Play(provider("a", slots=4, **QUICK))
    (waits,) = sends(play.tell(Add((job(0),))))
    play.tell(Acknowledged(waits.attempt, 60.0))
    # It has no room for more, and neither has the other one.
    play.tell(ProviderUp(provider("a", slots=4, width=1, **QUICK)))
    play.tell(ProviderUp(provider("b", width=1, **QUICK)))
    out = sends(play.tell(Add((job(1), job(2)))))
    assert [send.provider for send in out] == ["b"]
    commands = play.tell(Answered(out[0].attempt))
    assert [send.slot for send in sends(commands)] == [2]
    assert not [command for command in commands if isinstance(command, CancelAttempt)]


def test_nobody_who_met_a_job_with_silence_is_tried_with_one_that_somebody_has() -> None:
    play = Play(provider("a", **QUICK), ack_s=5.0)
    silent = play.send()
    play.tell(ProviderUp(provider("b", **QUICK)))
    again = sends(play.wait(6.0))
    assert [send.provider for send in again] == ["b"] and silent.provider == "a"
    play.tell(Answered(again[0].attempt))
    (waits,) = sends(play.tell(Add((job(1, without=frozenset({"c"})),))))
    assert waits.provider == "b"
    assert play.tell(Acknowledged(waits.attempt, 60.0)) == []


def test_a_job_that_two_have_already_stays() -> None:
    play, straggler = slow_tail()
    (hedge,) = sends(play.wait(1.0))
    play.tell(ProviderUp(provider("idle", **QUICK)))
    assert play.tell(Acknowledged(straggler.attempt, 60.0)) == []
    assert play.tell(Acknowledged(hedge.attempt, 60.0)) == []


def test_what_is_over_is_not_remembered() -> None:
    play = Play(provider("a", slots=2_000, **QUICK))
    for slot in range(2_000):
        (send,) = sends(play.tell(Add((job(slot),))))
        play.tell(Acknowledged(send.attempt, 5.0))
        play.tell(Drop((slot,)))
    (lane,) = play.dispatcher._roster.turns
    assert len(lane.told) < 300


def test_a_word_that_relays_tell_again_counts_once() -> None:
    play = Play(provider("a", slots=4, **QUICK))
    (send,) = sends(play.tell(Add((job(0),))))
    for _ in range(200):
        play.now += 1.0
        play.tell(Acknowledged(send.attempt, 20.0))
    (lane,) = play.dispatcher._roster.turns
    assert (lane.figures.waits.count, len(lane.told)) == (1, 1)
    play.tell(ProviderUp(provider("b", **SLOW)))
    # It began at 21 seconds, whatever a relay still says.
    assert play.tell(Acknowledged(send.attempt, 20.0)) == []


@pytest.mark.parametrize(
    "became",
    [
        {"paused": "for now"},
        {"price": Price(Msat(1_000)), "network": "play"},
        {"width": 0},
        {"barred": "left out"},
        {"loading": True},
    ],
    ids=lambda became: next(iter(became)),
)
def test_an_answer_draws_no_job_to_who_takes_none_any_more(became: dict[str, object]) -> None:
    play = Play(provider("a", slots=4, **QUICK))
    (waits,) = sends(play.tell(Add((job(0),))))
    play.tell(Acknowledged(waits.attempt, 60.0))
    play.tell(ProviderUp(provider("b", **QUICK)))
    (other,) = sends(play.tell(Add((job(1, to=("b",)),))))
    play.tell(ProviderUp(provider("b", **QUICK, **became)))
    assert play.tell(Answered(other.attempt)) == [Deliver(1, other.attempt, 1)]


def test_an_answer_draws_no_job_to_who_is_left_alone() -> None:
    play = Play(provider("a", slots=4, **QUICK))
    (waits,) = sends(play.tell(Add((job(0),))))
    play.tell(Acknowledged(waits.attempt, 60.0))
    play.tell(ProviderUp(provider("b", **QUICK)))
    (other,) = sends(play.tell(Add((job(1, to=("b",)),))))
    play.dispatcher._roster.standing_of("b").rests_until = play.now + 30.0
    play.dispatcher._roster.place(play.dispatcher._roster.standing_of("b"), play.now)
    assert play.tell(Answered(other.attempt)) == [Deliver(1, other.attempt, 1)]


@pytest.mark.parametrize("share", [1.0, 1.1, 1.34])
def test_on_a_budget_no_job_moves_while_others_have_nobody_yet(share: float) -> None:
    known = {"price": Price(Msat(100)), "network": "play", "funded": lambda: True}
    names = [f"p{n}" for n in range(40)]
    play = Play(*(provider(name, **known, **QUICK) for name in names), width=20)
    play.tell(Fund(3, int(60 * 100 * share)))
    need = Need(bid=Msat(100), network="play")
    play.tell(Add(tuple(SlotJob(slot, need, 120.0, 1e4, 0, 64, run=3) for slot in range(60))))
    done: set[int] = set()
    for _ in range(60):
        play.now += 1.0
        for send in [one for one in sends(play.commands) if one.slot not in done]:
            play.tell(Acknowledged(send.attempt, 30.0))
        for send in [one for one in sends(play.commands) if one.slot not in done]:
            play.tell(Answered(send.attempt, 100))
            done |= {one.slot for one in play.commands if isinstance(one, Deliver)}
    assert len(done) == 60 and not [one for one in play.commands if isinstance(one, GiveUp)]


def test_jobs_of_other_needs_that_nobody_has_come_before_those_that_wait() -> None:
    other = Need(model="m")
    both = {"slots": 1, "width": 1, **QUICK}
    play = Play(provider("p", models=(OfferedModel("m"),), **both))
    (first,) = sends(play.tell(Add((job(0),))))
    play.tell(ProviderUp(provider("z", slots=1, slots_free=0, width=1, **QUICK)))
    (waits,) = sends(play.tell(Add((job(1),))))
    play.tell(Acknowledged(waits.attempt, 60.0))
    play.tell(Add((SlotJob(2, other, 120.0, 1e4, 0, 64, priority=9),)))
    commands = play.tell(Answered(first.attempt))
    assert [(send.slot, send.provider) for send in sends(commands)] == [(2, "p")]
    assert not [one for one in commands if isinstance(one, CancelAttempt)]


@pytest.mark.parametrize("how", ["its answer", "a minute"])
def test_that_others_wait_somewhere_is_believed_until(how: str) -> None:
    play = Play(provider("quick", slots=4, slots_free=4, **QUICK), answer_s=1e4)
    (first,) = sends(play.tell(Add((job(0),))))
    play.tell(Acknowledged(first.attempt, 600.0))
    play.tell(ProviderUp(provider("slow", slots=4, slots_free=4, **SLOW)))
    (second,) = sends(play.tell(Add((job(1),))))
    assert second.provider == "slow"
    if how == "a minute":
        play.now += 60.0
    else:
        play.tell(Answered(first.attempt))
    play.tell(ProviderUp(provider("quick", slots=4, slots_free=4, **QUICK)))
    (third,) = sends(play.tell(Add((job(2),))))
    assert third.provider == "quick"


def test_one_that_says_it_would_wait_for_ever_keeps_no_other_from_moving() -> None:
    play = Play(provider("liar", slots=4, slots_free=4, **QUICK))
    # The first of them may not go to the one that answers.
    (held,) = sends(play.tell(Add((job(0, without=frozenset({"b"})),))))
    (other,) = sends(play.tell(Add((job(1),))))
    play.tell(Acknowledged(held.attempt, 1e6))
    play.tell(Acknowledged(other.attempt, 60.0))
    play.tell(ProviderUp(provider("b", slots=4, slots_free=4, **QUICK)))
    (last,) = sends(play.tell(Add((job(2, to=("b",)),))))
    assert [(send.slot, send.provider) for send in sends(play.tell(Answered(last.attempt)))] == [(1, "b")]


def test_a_job_whose_time_is_over_goes_nowhere() -> None:
    play = Play(provider("a", **QUICK), provider("b", **QUICK))
    (first,) = sends(play.tell(Add((SlotJob(0, NEED, 5.0, 1e4, 0, 64),))))
    play.now += 6.0
    assert not sends(play.tell(Acknowledged(first.attempt, 60.0)))


def test_a_job_on_a_machine_of_ones_own_goes_to_another_of_these_alone() -> None:
    paid = {"price": Price(Msat(100)), "network": "play", "funded": lambda: True}
    play = Play(provider("own", own=True, **SLOW), provider("paid", **paid, **QUICK))
    need = Need(bid=Msat(100), network="play")
    (first,) = sends(play.tell(Add((SlotJob(0, need, 120.0, 1e4, 0, 64),))))
    assert first.provider == "own"
    assert play.tell(Acknowledged(first.attempt, 30.0)) == []
    (second,) = sends(play.tell(Add((SlotJob(1, need, 120.0, 1e4, 0, 64),))))
    play.tell(Drop((1,)))
    play.tell(ProviderUp(provider("mine", own=True, **QUICK)))
    (third,) = sends(play.tell(Add((SlotJob(2, need, 120.0, 1e4, 0, 64),))))
    assert third.provider == "mine" and second.provider != "mine"
    assert [(one.slot, one.provider) for one in sends(play.tell(Answered(third.attempt)))] == [(0, "mine")]


@pytest.mark.parametrize(("speed", "late"), [(64.0, True), (1.0, False)], ids=["quick", "slow"])
def test_who_says_that_it_is_slow_gets_the_time_that_it_needs(speed: float, late: bool) -> None:
    play = Play(provider("a", tokens_out_per_s=speed), hedge_share=0)
    (first,) = sends(play.tell(Add((SlotJob(0, NEED, 300.0, 1e4, 0, 64),))))
    play.tell(Published(first.attempt))
    play.tell(Acknowledged(first.attempt))
    play.tell(ProviderUp(provider("b", tokens_out_per_s=speed)))
    assert bool(play.wait(61.0)) is late
    assert bool(play.wait(70.0)) is not late


def test_a_job_that_is_never_sent_ends_at_its_deadline() -> None:
    play = Play(provider("a"), overcommit=1.0, answer_s=1e5)
    play.send()
    play.add(deadline=5.0)
    given_up = [one for one in play.wait(6.0) if isinstance(one, GiveUp)]
    assert [(one.slot, one.failure) for one in given_up] == [(1, Failure.DEADLINE)]


def test_whoever_acknowledges_and_never_answers_is_left_alone_after_a_while() -> None:
    play = Play(provider("mute", slots=9), overcommit=1.0, answer_s=5.0)
    for _ in range(MISSES):
        [send] = [one for one in play.add() if isinstance(one, Send)]
        play.tell(Acknowledged(send.attempt))
        # Nobody is given up for while there is nobody else.
        play.tell(ProviderUp(provider("other")))
        play.wait(30.0)
        play.tell(ProviderDown("other"))
    rest = play.dispatcher.rest_of("mute", play.now)
    assert rest is not None and "did not answer" in rest[1]


SLOWEST = {"tokens_out_per_s": 0.001}


def held(*others: Listing, wanted: Need = NEED, timeout: float = 3_600.0, **slow: Any) -> tuple[Play, Send]:
    """A job whose provider says that it needs hours for it; the others come after that."""
    play = Play(provider("slow", **SLOWEST, **slow), hedge_share=0)
    (send,) = sends(play.tell(Add((SlotJob(0, wanted, timeout, 1e5, 0, 64, run=7),))))
    play.tell(Published(send.attempt))
    play.tell(Acknowledged(send.attempt))
    for other in others:
        play.tell(ProviderUp(other))
    return play, send


@pytest.mark.parametrize("funded", [True, False])
def test_who_says_that_it_needs_hours_keeps_no_job_from_who_needs_seconds_and_is_not_blamed(funded: bool) -> None:
    known: dict[str, Any] = {"price": Price(Msat(100)), "network": "play", "funded": lambda: funded}
    play, first = held(provider("b", **known, **QUICK), wanted=Need(bid=Msat(100), network="play"), **known)
    cancel, again = play.wait(61.0)
    assert cancel == CancelAttempt(0, first.attempt, "slow")
    assert isinstance(again, Send) and again.provider == "b"
    standing = play.dispatcher._roster.standing_of("slow")
    assert standing is not None and (standing.misses, standing.silences) == (0, 0)
    # Its answer is as good as any.
    assert play.tell(Answered(first.attempt))[-1] == Deliver(0, first.attempt, 2)


@pytest.mark.parametrize(
    "others",
    [(), (provider("as slow", **SLOWEST),), (provider("in time", tokens_out_per_s=0.0015),)],
    ids=["nobody else", "no quicker one", "none that is much quicker"],
)
def test_who_says_that_it_needs_hours_is_waited_for_where_nobody_needs_far_less(others: tuple[Listing, ...]) -> None:
    play, _ = held(*others)
    assert play.wait(300.0) == []


def test_a_job_that_is_slow_moves_as_soon_as_who_is_quick_has_come() -> None:
    play, _ = held()
    assert play.wait(100.0) == []
    play.tell(ProviderUp(provider("quick", **QUICK)))
    assert [send.provider for send in sends(play.wait(60.0))] == ["quick"]


def test_a_job_for_certain_providers_stays_with_one_that_needs_hours() -> None:
    play = Play(provider("slow", **SLOWEST), provider("quick", **QUICK), hedge_share=0)
    (send,) = sends(play.tell(Add((SlotJob(0, NEED, 3_600.0, 1e5, 0, 64, to=("slow",)),))))
    play.tell(Published(send.attempt))
    play.tell(Acknowledged(send.attempt))
    assert play.wait(300.0) == []


def test_who_met_a_job_with_silence_gets_none_that_is_only_slow_elsewhere() -> None:
    play, _ = held(provider("mute", **QUICK))
    (other,) = sends(play.tell(Add((SlotJob(1, NEED, 3_600.0, 1e5, 0, 64),))))
    assert other.provider == "mute"
    play.tell(Published(other.attempt))
    play.wait(10.0)
    play.tell(Drop((1,)))
    assert play.wait(100.0) == []
