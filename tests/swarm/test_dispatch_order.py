"""Whom the dispatcher prefers, what it holds back, and what a run may cost."""

import random
from collections import Counter

import pytest

from pylon.jobs.codes import ErrorCode
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.swarm.dispatch.budget import Budgets
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.dispatch.in_flight import LAPSE_S
from pylon.swarm.dispatch.lane import Lane
from pylon.swarm.dispatch.messages import (
    Acknowledged,
    Add,
    Adopt,
    Answered,
    Charged,
    Deliver,
    DispatchCommand,
    Failure,
    Fund,
    GiveUp,
    Lapsed,
    Owe,
    Published,
    Refused,
    RelaysDown,
    Send,
    SlotJob,
    Tick,
    Unheard,
)
from pylon.swarm.dispatch.standing import Standing
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.settings import DispatchSettings
from tests.swarm.test_dispatch import NEED, Play, provider, sends

PRICED = Need(bid=Msat(100), network="play")


def job(slot: int, *, need: Need = NEED, **fields: object) -> SlotJob:
    return SlotJob(slot, need, 120.0, 1e4, **fields)  # type: ignore[arg-type]


def priced(name: str, msat: int, **known: object) -> Listing:
    return provider(name, price=Price(Msat(msat)), network="play", **known)


def test_a_person_s_question_does_not_stand_behind_a_batch() -> None:
    play = Play(provider("a"), overcommit=1.0)
    play.tell(Add(tuple(job(n, run=1) for n in range(50))))
    play.tell(Add((job(50, run=2, priority=1),)))
    [first] = sends(play.commands)
    [second] = sends(play.tell(Answered(first.attempt)))
    assert second.slot == 50


def test_runs_of_one_priority_take_turns() -> None:
    play = Play(provider("a"), overcommit=1.0)
    play.tell(Add(tuple(job(n, run=1) for n in range(30))))
    play.tell(Add(tuple(job(n, run=2) for n in range(30, 60))))
    [send] = sends(play.commands)
    served = []
    for _ in range(20):
        served.append(send.slot // 30)
        [send] = sends(play.tell(Answered(send.attempt)))
    assert Counter(served[2:]) == {0: 9, 1: 9}


def test_priorities_hold_between_needs_too() -> None:
    play = Play(provider("a"), overcommit=1.0)
    play.tell(Add(tuple(job(n) for n in range(5))))
    play.tell(Add((job(5, need=Need(context=64), priority=3),)))
    [first] = sends(play.commands)
    [second] = sends(play.tell(Answered(first.attempt)))
    assert second.slot == 5


def test_an_idle_machine_of_one_s_own_comes_first_and_the_rest_goes_out_to_others() -> None:
    strangers = [provider(f"p{n}", tokens_out_per_s=1e6) for n in range(9)]
    play = Play(*strangers, provider("mine", own=True, slots=2, slots_free=2, tokens_out_per_s=1.0))
    sent = sends(play.add(5))
    assert [send.provider for send in sent[:2]] == ["mine", "mine"]
    assert "mine" not in {send.provider for send in sent[2:]}


def test_of_two_that_are_alike_the_cheaper_and_the_better_known_gets_the_job() -> None:
    for seed in range(20):
        for better, worse in (
            (priced("better", 10), priced("worse", 100)),
            (provider("better"), provider("worse", trust=0.0)),
        ):
            play = Play()
            play.dispatcher = Dispatcher(DispatchSettings(), random.Random(seed))
            play.tell(ProviderUp(worse))
            play.tell(ProviderUp(better))
            [send] = sends(play.tell(Add((job(0, need=PRICED, max_tokens=1),))))
            assert send.provider == "better"


def test_customers_with_the_same_figures_do_not_all_turn_to_one_machine() -> None:
    chosen = set()
    for seed in range(40):
        play = Play()
        play.dispatcher = Dispatcher(DispatchSettings(), random.Random(seed))
        for n in range(20):
            play.tell(ProviderUp(provider(f"p{n}", tokens_out_per_s=100.0)))
        chosen.add(sends(play.tell(Add((job(0, max_tokens=500),))))[0].provider)
    assert len(chosen) >= 12


def test_no_relay_carries_more_than_its_width_and_the_emptier_one_is_taken() -> None:
    play = Play()
    play.dispatcher = Dispatcher(DispatchSettings(relay_width=3), random.Random(1), ("wss://a", "wss://b"))
    play.tell(ProviderUp(provider("both", slots=100, relays=("WSS://a:443/", "wss://b"))))
    out = sends(play.add(20))
    assert Counter(send.relay for send in out) == {"wss://a": 3, "wss://b": 3}
    assert [send.relay for send in sends(play.tell(Answered(out[0].attempt)))] == [out[0].relay]


def test_nothing_goes_over_a_relay_that_is_not_connected_while_another_is() -> None:
    play = Play()
    play.dispatcher = Dispatcher(DispatchSettings(relay_width=3), random.Random(1), ("wss://a", "wss://b"))
    play.tell(RelaysDown(frozenset({"wss://a"})))
    play.tell(ProviderUp(provider("both", slots=100, relays=("wss://a", "wss://b"))))
    play.tell(ProviderUp(provider("far", slots=100, relays=("wss://a",))))
    assert Counter((send.provider, send.relay) for send in sends(play.add(20))) == {("both", "wss://b"): 3}
    # It is back, and what waited for it goes out at once.
    back = sends(play.tell(RelaysDown(frozenset())))
    assert [send.relay for send in back] == ["wss://a"] * 3


def test_what_has_no_other_way_than_a_relay_that_is_gone_is_sent_that_way_so_that_it_fails_and_says_why() -> None:
    play = Play()
    play.dispatcher = Dispatcher(DispatchSettings(), random.Random(1), ("wss://a", "wss://b"))
    play.tell(ProviderUp(provider("far", relays=("wss://a",))))
    play.tell(RelaysDown(frozenset({"wss://a"})))
    assert play.add(1) == []
    [send] = sends(play.tell(RelaysDown(frozenset({"wss://a"}), gone=frozenset({"wss://a"}))))
    assert send.relay == "wss://a"
    play.tell(ProviderUp(provider("near", relays=("wss://a", "wss://b"))))
    assert [send.relay for send in sends(play.tell(Add((job(1, to=("near",)),))))] == ["wss://b"]


def test_while_no_relay_is_connected_requests_wait_at_all_of_them_alike() -> None:
    play = Play()
    play.dispatcher = Dispatcher(DispatchSettings(relay_width=3), random.Random(1), ("wss://a", "wss://b"))
    play.tell(RelaysDown(frozenset({"wss://a", "wss://b", "wss://strangers"})))
    play.tell(ProviderUp(provider("both", slots=100, relays=("wss://a", "wss://b"))))
    assert Counter(send.relay for send in sends(play.add(20))) == {"wss://a": 3, "wss://b": 3}


def test_a_job_for_some_only_goes_to_the_first_of_them_that_has_room_and_never_to_others() -> None:
    play = Play(*(provider(name) for name in "abcd"), overcommit=1.0)
    [first, second] = sends(play.tell(Add((job(0, to=("b", "c")), job(1, to=("b", "c"))))))
    assert (first.provider, second.provider) == ("b", "c")
    assert play.tell(Refused(first.attempt, ErrorCode.ENGINE_FAILED)) == []
    [third] = sends(play.tell(Answered(second.attempt)))
    assert (third.slot, third.provider) == (0, "c")


def test_a_job_for_some_only_is_given_up_when_none_of_them_is_there() -> None:
    play = Play(provider("a"))
    assert play.tell(Add((job(0, to=("x",)),))) == [GiveUp(0, Failure.REFUSED, None, 0)]


def test_whom_a_job_must_not_go_to_does_not_get_it() -> None:
    for seed in range(10):
        play = Play()
        play.dispatcher = Dispatcher(DispatchSettings(), random.Random(seed))
        for name in "ab":
            play.tell(ProviderUp(provider(name)))
        [send] = sends(play.tell(Add((job(0, without=frozenset("a")),))))
        assert send.provider == "b"


def test_a_run_never_reserves_more_than_its_budget_and_goes_on_with_what_was_not_charged() -> None:
    play = Play(priced("a", 100, slots=50))
    play.tell(Fund(7, 250))
    out = sends(play.tell(Add(tuple(job(n, need=PRICED, run=7) for n in range(10)))))
    assert len(out) == 2
    assert len(sends(play.tell(Answered(out[0].attempt, charged=40)))) == 1
    assert len(sends(play.tell(Answered(out[1].attempt, charged=10)))) == 1
    third, fourth = sends(play.commands)[2:]
    play.tell(Answered(third.attempt, charged=100))
    left = play.tell(Answered(fourth.attempt, charged=100))
    assert {command.failure for command in left if isinstance(command, GiveUp)} == {Failure.BUDGET}
    assert len([command for command in play.commands if isinstance(command, Deliver)]) == 4
    assert play.dispatcher.open == 0


def test_a_run_whose_money_is_out_holds_up_neither_its_equals_nor_those_of_a_lower_priority() -> None:
    for priority in (0, 1):
        play = Play(priced("a", 100, slots=50, funded=lambda: True))
        play.tell(Fund(1, 250))
        play.tell(Add(tuple(job(n, need=PRICED, run=1, priority=priority) for n in range(5))))
        play.tell(Add(tuple(job(n, need=PRICED, run=2) for n in range(5, 10))))
        assert Counter(send.slot // 5 for send in sends(play.commands)) == {0: 2, 1: 5}
        # What it gets back is its own again at once.
        [first, *_] = [send for send in sends(play.commands) if send.slot < 5]
        [again] = sends(play.tell(Answered(first.attempt, charged=0)))
        assert again.slot < 5


def test_however_many_runs_wait_for_their_money_they_hold_up_nobody() -> None:
    play = Play(priced("a", 100, slots=500), width=500)
    for run in range(1, 101):
        play.tell(Fund(run, 150))
        play.tell(Add(tuple(job(2 * run + n, need=PRICED, run=run) for n in range(2))))
    out = sends(play.tell(Add(tuple(job(n, need=PRICED, run=101) for n in range(1_000, 1_010)))))
    assert [send.slot for send in out] == list(range(1_000, 1_010))


def test_of_runs_that_wait_for_their_money_each_is_looked_at_once_however_many_providers_it_cannot_pay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = Play(*(priced(f"{n}", 100, slots=50) for n in range(40)))
    for run in range(100):
        play.tell(Fund(run, 150))
        play.tell(Add(tuple(job(2 * run + n, need=PRICED, run=run) for n in range(2))))
    looked_at: list[int] = []
    left = Budgets.left
    monkeypatch.setattr(Budgets, "left", lambda self, run: looked_at.append(run) or left(self, run))
    play.tell(Tick())
    assert len(set(looked_at)) == 100 and len(looked_at) < 150


def test_jobs_of_a_lower_priority_go_out_in_the_same_turn_as_the_last_of_a_higher_one() -> None:
    play = Play(provider("a", slots=50))
    out = sends(play.tell(Add((job(0, priority=1), job(1), job(2, need=Need(context=64), priority=2)))))
    assert [send.slot for send in out] == [2, 0, 1]


def test_a_run_whose_money_is_out_lets_no_lower_priority_before_a_higher_one_of_another_need() -> None:
    play = Play(priced("a", 100, slots=3, funded=lambda: True), overcommit=1.0)
    other = Need(bid=Msat(100), network="play", context=64)
    play.tell(Fund(1, 100))
    play.tell(Add((job(0, need=PRICED, run=1, priority=1), job(1, need=PRICED, run=1, priority=1))))
    jobs = (job(2, need=PRICED), job(3, need=other), job(4, need=other, priority=1))
    assert sends(play.tell(Add(jobs)))[0].slot == 4


def given_up(commands: list[DispatchCommand]) -> dict[int, Failure]:
    return {one.slot: one.failure for one in commands if isinstance(one, GiveUp)}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Lane]:
    """The lanes that were looked through, each time."""
    found: list[Lane] = []
    slots = Lane.slots
    monkeypatch.setattr(Lane, "slots", lambda lane: found.append(lane) or slots(lane))
    return found


def test_one_look_serves_all_that_waits_where_nobody_is(looks: list[Lane]) -> None:
    play = Play(provider("a", slots=50), width=50, overcommit=1.0)
    out = sends(play.tell(Add(tuple(job(n) for n in range(60)))))
    play.tell(ProviderDown("a"))
    for send in out:
        play.tell(Refused(send.attempt, ErrorCode.ENGINE_FAILED))
    assert len(given_up(play.wait(10.1))) == 60
    assert len(looks) == 1


def test_what_comes_later_to_where_nobody_is_waits_as_long_and_so_does_all_when_somebody_came_between() -> None:
    play = Play(patience_s=10.0)
    play.add(1)
    play.wait(4.0)
    play.add(1)
    assert given_up(play.wait(5.9)) == {}
    assert given_up(play.wait(0.2)) == {0: Failure.NO_PROVIDER}
    assert given_up(play.wait(3.7)) == {}
    assert given_up(play.wait(0.3)) == {1: Failure.NO_PROVIDER}
    play.tell(Add((job(2), job(3), job(4))))
    play.wait(5.0)
    play.tell(ProviderUp(provider("a", slots=1)))
    play.tell(ProviderDown("a"))
    assert given_up(play.wait(9.9)) == {}
    assert given_up(play.wait(0.2)) == {4: Failure.NO_PROVIDER}


def test_one_look_serves_all_that_waits_for_a_word_and_comes_in_time_for_the_most_hurried(looks: list[Lane]) -> None:
    play = Play(provider("a", slots=40), overcommit=1.0)
    hurried = tuple(SlotJob(n, NEED, 20.0, 1e4) for n in (0, 40))
    for send in sends(play.tell(Add((hurried[0], *(job(n) for n in range(1, 40)), hurried[1], job(41))))):
        play.tell(Published(send.attempt))
    # One of the hurried went out. The other would be the next, had anybody a word.
    assert set(given_up(play.wait(25.1))) == {0, 40}
    assert len(looks) == 1
    assert set(given_up(play.wait(100.0))) == {*range(1, 40), 41}
    assert len(looks) == 2
    assert {one.failure for one in play.commands if isinstance(one, GiveUp)} == {Failure.UNHEARD}


def test_where_nobody_says_a_word_no_job_waits_longer_than_it_has_time() -> None:
    play = Play(provider("a"))
    out = sends(play.tell(Add(tuple(SlotJob(n, NEED, 10.0, 1e4) for n in range(20)))))
    over: list[GiveUp] = []
    for _ in range(600):
        for send in out:
            play.tell(Published(send.attempt))
        commands = play.wait(0.1)
        out = sends(commands)
        over += [command for command in commands if isinstance(command, GiveUp)]
    assert len(over) == 20 and {command.failure for command in over} == {Failure.UNHEARD}
    assert play.now < 61.0


def test_a_word_for_any_job_is_reason_enough_for_the_others_to_wait() -> None:
    play = Play(provider("a"))
    [first, *_] = sends(play.tell(Add(tuple(SlotJob(n, NEED, 100.0, 1e4) for n in range(9)))))
    play.tell(Published(first.attempt))
    play.tell(Acknowledged(first.attempt))
    play.wait(90.0)
    assert not [command for command in play.commands if isinstance(command, GiveUp)]
    play.tell(Answered(first.attempt))
    play.wait(60.0)
    assert Failure.UNHEARD not in {c.failure for c in play.commands if isinstance(c, GiveUp) and not c.attempts}


def test_who_says_busy_and_charges_all_the_same_is_paid_of_the_budget_once() -> None:
    play = Play(priced("a", 100, slots=50))
    play.tell(Fund(7, 250))
    charged = 0
    for n in range(6):
        for send in sends(play.tell(Add((job(n, need=PRICED, run=7),)))):
            play.tell(Refused(send.attempt, ErrorCode.BUSY))
            play.tell(Answered(send.attempt, charged=100))
            charged += 100
        play.wait(60.0)
    assert charged == 200 and play.dispatcher.budget_left(7) == 50


def test_a_part_of_one_that_was_given_up_gives_back_what_it_did_not_cost_and_fills_no_slot() -> None:
    play = Play(priced("a", 100, tokens_out_per_s=0.0), priced("b", 100))
    play.tell(Fund(7, 300))
    [first] = sends(play.tell(Add((job(0, need=PRICED, run=7),))))
    play.tell(Published(first.attempt))
    # One that is still waited for has no part to pay for.
    play.tell(Charged(first.attempt, 1))
    assert play.dispatcher.budget_left(7) == 200
    play.wait(6.0)
    assert play.dispatcher.budget_left(7) == 100
    for _ in range(2):
        assert play.tell(Charged(first.attempt, 30)) == []
        assert play.dispatcher.budget_left(7) == 170


def test_an_answer_of_one_that_was_given_up_gives_back_what_it_did_not_cost() -> None:
    play = Play(priced("a", 100, tokens_out_per_s=0.0), priced("b", 100))
    play.tell(Fund(7, 300))
    [first] = sends(play.tell(Add((job(0, need=PRICED, run=7),))))
    play.tell(Published(first.attempt))
    play.wait(6.0)
    assert play.dispatcher.budget_left(7) == 100
    play.tell(Answered(first.attempt, charged=30))
    # The second is cancelled, and counts as all that it could cost.
    assert play.dispatcher.budget_left(7) == 170


@pytest.mark.parametrize("refused", [False, True])
def test_an_answer_that_came_late_and_without_a_receipt_counts_as_all_of_it_until_its_receipt_comes(
    refused: bool,
) -> None:
    play = Play(priced("a", 100, tokens_out_per_s=0.0), priced("b", 100))
    play.tell(Fund(7, 300))
    budget = play.dispatcher.budget(7)
    [first] = sends(play.tell(Add((job(0, need=PRICED, run=7),))))
    play.tell(Published(first.attempt))
    if refused:
        play.tell(Refused(first.attempt, ErrorCode.ENGINE_FAILED))
    else:
        play.wait(6.0)
    play.tell(Answered(first.attempt))
    # The second is cancelled, and counts so too.
    assert budget is not None and (budget.spent, budget.open, budget.reserved) == (0, 200, 0)
    play.tell(Charged(first.attempt, 30))
    assert (budget.spent, budget.open) == (30, 100)
    play.wait(LAPSE_S + 2_000.0)
    assert (budget.spent, budget.open) == (30, 0)


def test_what_costs_nothing_is_done_when_the_budget_is_spent() -> None:
    play = Play(priced("dear", 100), provider("free"))
    play.tell(Fund(7, 0))
    out = sends(play.tell(Add((job(0, need=PRICED, run=7),))))
    assert [send.provider for send in out] == ["free"]


def test_a_job_that_only_the_dear_have_room_for_waits_for_the_cheap_one_that_its_run_can_pay() -> None:
    play = Play(priced("dear", 100, slots=9), provider("free"), overcommit=1.0)
    play.tell(Fund(7, 0))
    [first] = sends(play.tell(Add(tuple(job(n, need=PRICED, run=7) for n in range(2)))))
    # Another run that can pay is not held up by it.
    [other] = sends(play.tell(Add((job(2, need=PRICED, run=8),))))
    assert (first.provider, other.provider) == ("free", "dear")
    [second] = sends(play.tell(Answered(first.attempt)))
    assert (second.slot, second.provider) == (1, "free")
    assert not [one for one in play.commands if isinstance(one, GiveUp)]


def test_a_job_that_waits_for_the_cheap_one_is_given_up_once_only_the_dear_are_left() -> None:
    play = Play(priced("dear", 100, slots=9), provider("free"), overcommit=1.0)
    play.tell(Fund(7, 0))
    [first] = sends(play.tell(Add(tuple(job(n, need=PRICED, run=7) for n in range(2)))))
    play.tell(ProviderDown("free"))
    [given_up] = [one for one in play.commands if isinstance(one, GiveUp)]
    assert (given_up.slot, given_up.failure) == (1 - first.slot, Failure.BUDGET)


def test_a_cancelled_attempt_counts_as_all_that_it_could_cost() -> None:
    play = Play(priced("a", 100), priced("b", 100))
    play.tell(Fund(7, 150))
    [send] = sends(play.tell(Add((job(0, need=PRICED, run=7),))))
    play.tell(Published(send.attempt))
    [given_up] = [command for command in play.wait(6.0) if isinstance(command, GiveUp)]
    assert given_up.failure is Failure.BUDGET


def hedged(**known: object) -> list[Send]:
    play = Play(*(priced(f"p{n}", 10, **known) for n in range(31)))
    play.tell(Fund(1, 10_000))
    out = sends(play.tell(Add(tuple(job(n, need=PRICED, run=1) for n in range(30)))))
    for send in out:
        play.tell(Published(send.attempt))
    play.wait(1.0)
    for send in out[1:]:
        play.tell(Answered(send.attempt))
    return [send for send in sends(play.wait(3.0)) if send.hedge]


def test_the_slow_tail_is_hedged_where_money_or_credit_of_ours_is_and_nowhere_else() -> None:
    assert hedged() == []
    assert len(hedged(funded=lambda: True)) == 1


def test_an_adopted_job_is_waited_for_and_not_sent_again() -> None:
    play = Play(provider("a"), provider("b"))
    assert play.tell(Adopt(job(0), "a")) == []
    assert play.dispatcher.in_flight == 1
    assert play.tell(Answered(1)) == [Deliver(0, 1, 1)]


def test_what_an_earlier_process_sent_is_set_aside_until_it_is_charged_or_lapses() -> None:
    play = Play(priced("a", 4))
    play.tell(Fund(1, 10))
    budget = play.dispatcher.budget(1)
    assert budget is not None
    first, second = play.dispatcher.last_attempt + 1, play.dispatcher.last_attempt + 2
    for cost in (3, 5):
        play.tell(Owe(1, cost, 100.0))
    assert (budget.open, budget.left) == (8, 2)
    play.tell(Add((job(0, need=PRICED, run=1),)))
    assert [one.failure for one in play.commands if isinstance(one, GiveUp)] == [Failure.BUDGET]
    play.tell(Charged(first, 2))
    assert (budget.spent, budget.open, budget.left) == (2, 5, 3)
    play.now = 101.0
    assert play.tell(Tick()) == [Lapsed(second)]
    assert (budget.spent, budget.open) == (2, 0)
    [sent] = sends(play.tell(Add((job(1, need=PRICED, run=1),))))
    assert sent.attempt == second + 1
    play.tell(Owe(2, 5, 200.0))
    assert not play.dispatcher.is_open(second + 2), "a run without a budget counts nothing"


def test_of_an_attempt_that_is_charged_more_than_once_the_last_charge_counts() -> None:
    play = Play(priced("a", 4))
    play.tell(Fund(1, 20))
    budget = play.dispatcher.budget(1)
    assert budget is not None
    [sent] = sends(play.tell(Add((job(0, need=PRICED, run=1),))))
    play.tell(Refused(sent.attempt, None, ours=True))
    assert (budget.open, budget.spent) == (4, 0)
    for charged in (2, 3, 1):
        play.tell(Charged(sent.attempt, charged))
        assert (budget.open, budget.spent) == (0, charged)


def test_a_provider_that_was_busy_gets_one_more_at_a_time_with_each_answer() -> None:
    standing = Standing("a")
    standing.update(Listing("a", slots=4), overcommit=1.5)
    standing.in_flight = 1
    standing.was_busy(0.0)
    limits = [standing.limit]
    for _ in range(7):
        standing.answered(1, 0.1)
        limits.append(standing.limit)
    assert limits == [1, 2, 3, 4, 5, 6, 6, 6]


def test_an_adopted_job_of_which_no_relay_knows_goes_elsewhere_at_once() -> None:
    # The process before died between writing it down and sending it.
    play = Play(provider("b"))
    play.tell(Adopt(job(0), "a"))
    assert [send.provider for send in sends(play.tell(Unheard(1)))] == ["b"]


def test_an_adopted_job_whose_provider_had_a_word_for_it_is_waited_for() -> None:
    play = Play(provider("b"))
    play.tell(Adopt(job(0), "a"))
    play.tell(Acknowledged(1))
    assert sends(play.tell(Unheard(1))) == []


def test_an_adopted_job_whose_provider_stays_silent_goes_elsewhere() -> None:
    play = Play(provider("b"))
    play.tell(Adopt(job(0), "gone"))
    assert [send.provider for send in sends(play.wait(61.0))] == ["b"]


def test_what_was_taken_back_is_sent_again_once_relays_have_no_answer_to_it() -> None:
    # To the very same provider too: it has failed nothing.
    play = Play(provider("a"))
    play.tell(Adopt(job(0), "a", taken_back=True))
    assert play.tell(Acknowledged(1)) == []
    found = play.tell(Unheard(1))
    assert [type(command) for command in found] == [Send] and sends(found)[0].provider == "a"
    assert play.tell(Answered(2)) == [Deliver(0, 2, 2)]


def test_an_answer_that_came_before_it_was_taken_back_is_taken() -> None:
    play = Play(provider("a"))
    play.tell(Adopt(job(0), "a", taken_back=True))
    assert play.tell(Answered(1)) == [Deliver(0, 1, 1)]


def test_what_was_taken_back_may_still_be_charged_and_only_who_can_pay_for_both_asks_again() -> None:
    play = Play(priced("a", 4))
    play.tell(Fund(1, 10))
    budget = play.dispatcher.budget(1)
    assert budget is not None
    for slot in (0, 1):
        play.tell(Adopt(job(slot, need=PRICED, run=1), "a", 4, taken_back=True))
    assert (budget.reserved, budget.left) == (8, 2)
    assert play.tell(Unheard(1)) == []
    # Its provider says that it costs nothing.
    assert len(sends(play.tell(Refused(2, None, ours=True)))) == 0
    play.tell(Charged(2, 0))
    play.tell(Fund(1, 20))
    [again] = sends(play.tell(Unheard(1)))
    assert again.slot == 0 and (budget.open, budget.reserved) == (4, 8)
    play.tell(Charged(1, 3))
    assert (budget.open, budget.spent) == (0, 3)


def test_nothing_that_an_earlier_process_sent_is_held_against_its_provider() -> None:
    play = Play(provider("a"), provider("b"))
    for slot in range(4):
        play.tell(Adopt(job(slot), "a"))
        play.tell(Acknowledged(slot + 1))
    assert {send.provider for send in sends(play.wait(61.0))} <= {"a", "b"}
    assert play.dispatcher.rest_of("a", play.now) is None
    assert not play.dispatcher._roster.standing_of("a").pace.seconds
