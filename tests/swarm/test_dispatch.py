"""The dispatcher as a script: what it is told, what it wants done."""

import random
from typing import Any

import pytest

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.codes import ErrorCode
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.swarm.dispatch import roster
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.dispatch.messages import (
    Acknowledged,
    Add,
    Answered,
    CancelAttempt,
    Charged,
    Coming,
    Deliver,
    DispatchCommand,
    Drop,
    Failure,
    Fund,
    GiveUp,
    Published,
    Refused,
    Send,
    SendFailed,
    SlotJob,
    SwarmEvent,
    Tick,
)
from pylon.swarm.dispatch.roster import LANES
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.settings import DispatchSettings
from tests.swarm.fakes import first_due

NEED = Need()


class Play:
    """A dispatcher, its clock, and all that it wanted so far."""

    def __init__(self, *listings: Listing, **settings: Any) -> None:
        self.now = 0.0
        self.dispatcher = Dispatcher(DispatchSettings(**settings), random.Random(7))
        self.commands: list[DispatchCommand] = []
        self.slots = 0
        for listing in listings:
            self.tell(ProviderUp(listing))

    def tell(self, event: SwarmEvent) -> list[DispatchCommand]:
        commands = self.dispatcher.handle(event, self.now)
        self.commands += commands
        return commands

    def wait(self, seconds: float) -> list[DispatchCommand]:
        """Time passes, with a tick each tenth of a second."""
        commands: list[DispatchCommand] = []
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            commands += self.tell(Tick())
        return commands

    def add(
        self, count: int = 1, *, need: Need = NEED, timeout: float = 120.0, deadline: float = 1e4
    ) -> list[DispatchCommand]:
        first, self.slots = self.slots, self.slots + count
        return self.tell(Add(tuple(SlotJob(first + n, need, timeout, deadline) for n in range(count))))

    def send(self, count: int = 1, **job: Any) -> Send:
        """Adds jobs, and publishes what is sent; the first sending."""
        sends = [command for command in self.add(count, **job) if isinstance(command, Send)]
        for send in sends:
            self.tell(Published(send.attempt))
        return sends[0]


def provider(name: str, **known: Any) -> Listing:
    return Listing(name, **known)


def sends(commands: list[DispatchCommand]) -> list[Send]:
    return [command for command in commands if isinstance(command, Send)]


def test_a_job_goes_to_a_provider_and_its_answer_is_delivered() -> None:
    play = Play(provider("a"))
    send = play.send()
    assert (send.slot, send.provider, send.expires_at, send.hedge) == (0, "a", 120.0, False)
    assert play.tell(Answered(send.attempt)) == [Deliver(0, send.attempt, 1)]
    assert play.dispatcher.open == play.dispatcher.in_flight == 0


def test_a_late_duplicate_of_an_answer_changes_nothing() -> None:
    play = Play(provider("a"))
    send = play.send()
    play.tell(Answered(send.attempt))
    for late in (Answered(send.attempt), Refused(send.attempt, ErrorCode.BUSY), Acknowledged(send.attempt)):
        assert play.tell(late) == []
    assert play.dispatcher.in_flight == 0


def test_what_is_not_acknowledged_in_time_goes_elsewhere() -> None:
    play = Play(provider("a"), provider("b"))
    first = play.send()
    assert play.wait(4.9) == []
    cancel, again = play.wait(0.2)
    assert cancel == CancelAttempt(0, first.attempt, first.provider)
    assert isinstance(again, Send) and {first.provider, again.provider} == {"a", "b"}


def test_the_time_to_acknowledge_begins_when_a_relay_has_the_request() -> None:
    play = Play(provider("a"), provider("b"))
    [send] = sends(play.add())
    assert play.wait(20) == []
    play.tell(Published(send.attempt))
    assert play.wait(4.9) == []
    assert len(play.wait(0.2)) == 2


def test_an_acknowledged_job_waits_for_its_answer_and_then_goes_elsewhere() -> None:
    play = Play(provider("a"), provider("b"))
    first = play.send()
    play.tell(Acknowledged(first.attempt))
    assert play.wait(59.9) == []
    assert [type(command) for command in play.wait(0.2)] == [CancelAttempt, Send]


def test_an_acknowledged_job_stays_when_nobody_else_could_do_it() -> None:
    play = Play(provider("a"))
    first = play.send()
    play.tell(Acknowledged(first.attempt))
    assert play.wait(119.8) == []
    assert play.wait(0.4) == [CancelAttempt(0, first.attempt, "a"), GiveUp(0, Failure.DEADLINE, None, 1)]


def test_an_answer_that_comes_after_the_reissue_is_as_good_as_any() -> None:
    play = Play(provider("a"), provider("b"))
    first = play.send()
    [_, second] = play.wait(5.1)
    assert isinstance(second, Send)
    assert play.tell(Answered(first.attempt)) == [
        CancelAttempt(0, second.attempt, second.provider),
        Deliver(0, first.attempt, 2),
    ]


def test_a_job_whose_time_is_over_is_given_up_and_cancelled() -> None:
    play = Play(provider("a"), attempts=99)
    send = play.send(timeout=3.0)
    assert play.wait(3.1) == [CancelAttempt(0, send.attempt, "a"), GiveUp(0, Failure.DEADLINE, None, 1)]


def test_a_job_that_was_never_sent_ends_with_its_run() -> None:
    play = Play(provider("a"))
    play.send(3, deadline=30.0)
    play.tell(Acknowledged(1))
    play.tell(Acknowledged(2))
    assert {command.slot for command in play.wait(30.1) if isinstance(command, GiveUp)} == {0, 1, 2}


def test_nobody_at_all_is_waited_for_ten_seconds() -> None:
    play = Play(provider("a", paused="battery"))
    assert play.add(2) == []
    assert play.wait(9.8) == []
    assert play.wait(0.4) == [GiveUp(n, Failure.NO_PROVIDER, None, 0) for n in (0, 1)]


def test_a_job_waits_for_somebody_no_longer_than_it_has_time() -> None:
    play = Play()
    play.add(timeout=3.0)
    play.add(timeout=0.4)
    play.add(timeout=60.0)
    assert play.wait(0.9) == []
    assert play.wait(0.3) == [GiveUp(1, Failure.NO_PROVIDER, None, 0)]
    assert play.wait(1.7) == []
    assert play.wait(0.3) == [GiveUp(0, Failure.NO_PROVIDER, None, 0)]
    assert play.wait(6.5) == []
    assert play.wait(0.5) == [GiveUp(2, Failure.NO_PROVIDER, None, 0)]


def test_one_that_loads_its_model_is_waited_for_as_long_as_the_job_has_time() -> None:
    play = Play(provider("a", loading=True))
    play.add(timeout=60.0)
    assert play.wait(59.8) == []
    assert play.wait(0.4) == [GiveUp(0, Failure.NO_PROVIDER, None, 0)]
    play.add(timeout=60.0)
    play.wait(50.0)
    [send] = sends(play.tell(ProviderUp(provider("a"))))
    assert send.slot == 1


def test_one_that_loads_its_model_is_waited_for_no_longer_than_it_is_there() -> None:
    play = Play(provider("a", loading=True))
    play.add()
    assert play.wait(25.0) == []
    play.tell(ProviderDown("a"))
    assert play.wait(10.1) == [GiveUp(0, Failure.NO_PROVIDER, None, 0)]


def test_who_has_no_patience_waits_for_one_that_loads_its_model_all_the_same() -> None:
    play = Play(provider("a", loading=True), patience_s=0)
    play.add(timeout=5.0)
    assert play.wait(4.8) == []
    assert play.wait(0.4) == [GiveUp(0, Failure.NO_PROVIDER, None, 0)]


def test_an_answer_that_is_due_at_once_is_waited_for_where_nobody_else_is_there() -> None:
    play = Play(provider("a"), answer_s=0)
    send = play.send(timeout=5.0)
    play.tell(Acknowledged(send.attempt))
    assert play.wait(4.8) == []
    assert play.tell(Answered(send.attempt)) == [Deliver(0, send.attempt, 1)]


def test_one_that_loads_and_would_not_take_the_job_is_not_waited_for() -> None:
    other = OfferedModel("other")
    play = Play(provider("a", loading=True, price=Price(Msat(5))), provider("b", loading=True, models=(other,)))
    play.add(need=Need(model="wanted"))
    assert play.wait(10.1) == [GiveUp(0, Failure.NO_PROVIDER, None, 0)]


def test_when_the_last_provider_goes_each_job_waits_no_longer_than_it_has_time() -> None:
    play = Play(provider("a", slots=1), overcommit=1.0)
    play.send(timeout=60.0)
    play.add(timeout=60.0)
    play.add(timeout=3.0)
    play.wait(20.0)
    play.tell(ProviderDown("a"))
    assert [one for one in play.wait(2.9) if isinstance(one, GiveUp)] == []
    assert play.wait(0.3) == [GiveUp(2, Failure.NO_PROVIDER, None, 0)]
    assert [one for one in play.wait(8.0) if isinstance(one, GiveUp)] == [GiveUp(1, Failure.NO_PROVIDER, None, 0)]


def test_a_provider_that_comes_in_time_gets_what_waited() -> None:
    play = Play()
    play.add()
    play.wait(9.0)
    assert [send.provider for send in sends(play.tell(ProviderUp(provider("a"))))] == ["a"]


def test_when_the_last_provider_goes_waiting_jobs_are_given_up_after_a_while() -> None:
    play = Play(provider("a"))
    play.send(3)
    play.tell(ProviderDown("a"))
    given_up = [command for command in play.wait(30) if isinstance(command, GiveUp)]
    assert {command.slot for command in given_up} == {0, 1, 2}
    assert {command.failure for command in given_up} == {Failure.NO_PROVIDER}


def test_who_is_barred_gets_no_more_and_what_is_out_there_is_waited_for() -> None:
    play = Play(provider("a"))
    first = play.send(3)
    play.tell(Acknowledged(first.attempt))
    play.tell(ProviderUp(provider("a", barred="not paid", width=0)))
    play.wait(9.0)
    assert not any(isinstance(command, GiveUp) for command in play.commands)
    play.tell(Answered(first.attempt, 0))
    play.wait(30.0)
    assert [command for command in play.commands if isinstance(command, Deliver)] == [Deliver(0, first.attempt, 1)]
    given_up = [command for command in play.commands if isinstance(command, GiveUp)]
    assert {(command.slot, command.failure) for command in given_up} == {(n, Failure.NO_PROVIDER) for n in (1, 2)}


def test_who_is_barred_no_longer_gets_what_waits() -> None:
    play = Play(provider("a", barred="not paid", width=0))
    assert sends(play.add()) == []
    play.wait(5.0)
    assert [send.provider for send in sends(play.tell(ProviderUp(provider("a"))))] == ["a"]


def test_no_provider_holds_more_than_its_slots_and_a_half_and_the_swarm_no_more_than_the_width() -> None:
    play = Play(provider("a", slots=4), provider("b", slots=1), width=7)
    sent = sends(play.add(20))
    assert len(sent) == 7
    assert sum(send.provider == "a" for send in sent) <= 6
    assert sum(send.provider == "b" for send in sent) <= 2
    assert len(sends(play.tell(Answered(sent[0].attempt)))) == 1


def test_idle_providers_come_before_a_second_job_for_anyone() -> None:
    play = Play(*(provider(f"p{n}") for n in range(20)))
    assert len({send.provider for send in sends(play.add(20))}) == 20


def test_the_quicker_provider_gets_the_job() -> None:
    slow, quick = provider("slow", tokens_out_per_s=5.0), provider("quick", tokens_out_per_s=100.0)
    for seed in range(10):
        play = Play(slow, quick)
        play.dispatcher = Dispatcher(DispatchSettings(), random.Random(seed))
        play.tell(ProviderUp(slow))
        play.tell(ProviderUp(quick))
        [send] = sends(play.tell(Add((SlotJob(0, NEED, 120, 1e4, 10, 500),))))
        assert send.provider == "quick"


def test_what_was_seen_of_a_provider_counts_for_more_than_what_it_claims() -> None:
    play = Play(provider("boaster", tokens_out_per_s=1e6), provider("honest", tokens_out_per_s=1e6))
    play.tell(ProviderDown("honest"))
    send = play.send()
    play.tell(Acknowledged(send.attempt))
    play.wait(8)
    play.tell(Answered(send.attempt))
    play.tell(ProviderUp(provider("honest", tokens_out_per_s=1e6)))
    assert play.send().provider == "honest"


def test_slots_that_others_use_are_not_free() -> None:
    play = Play(provider("used", slots=2, slots_free=0), provider("free", slots=2, slots_free=2))
    assert play.send().provider == "free"


def test_a_busy_provider_is_left_alone_for_a_while_and_asked_again() -> None:
    play = Play(provider("a"))
    send = play.send()
    assert play.tell(Refused(send.attempt, ErrorCode.BUSY)) == []
    assert play.wait(0.8) == []
    assert [again.provider for again in sends(play.wait(0.4))] == ["a"]


def test_each_busy_answer_doubles_the_wait_and_there_is_an_end_to_asking() -> None:
    play = Play(provider("a"), refusals=4)
    send = play.send(timeout=1_000)
    times = []
    for _ in range(3):
        play.tell(Refused(send.attempt, ErrorCode.PAUSED))
        while not (sent := sends(play.wait(0.1))):
            pass
        times.append(round(play.now))
        [send] = sent
    assert times == [1, 3, 7]
    assert play.tell(Refused(send.attempt, ErrorCode.PAUSED)) == [GiveUp(0, Failure.EXHAUSTED, ErrorCode.PAUSED, 4)]


def test_a_provider_without_the_model_is_never_asked_for_it_again() -> None:
    model = (OfferedModel("m"), OfferedModel("n"))
    play = Play(provider("a", models=model))
    send = play.send(need=Need(model="m"))
    play.tell(Refused(send.attempt, ErrorCode.UNSUPPORTED_MODEL))
    play.tell(ProviderUp(provider("a", models=model, slots_free=0)))
    assert [type(command) for command in play.wait(11)] == [GiveUp]
    assert play.add(need=Need(model="m")) == []
    assert [send.provider for send in sends(play.add(need=Need(model="n")))] == ["a"]


def test_one_provider_alone_cannot_end_a_job_by_calling_it_malformed() -> None:
    play = Play(provider("a"), provider("b"), provider("c"))
    first = play.send()
    [second] = play.tell(Refused(first.attempt, ErrorCode.MALFORMED))
    assert isinstance(second, Send) and second.provider != first.provider
    assert play.tell(Refused(second.attempt, ErrorCode.MALFORMED)) == [
        GiveUp(0, Failure.REFUSED, ErrorCode.MALFORMED, 2)
    ]


@pytest.mark.parametrize("code", [ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED_PARAM, ErrorCode.MALFORMED])
def test_a_job_that_everybody_refuses_is_given_up_at_once(code: ErrorCode) -> None:
    play = Play(provider("a"))
    send = play.send()
    assert play.tell(Refused(send.attempt, code)) == [GiveUp(0, Failure.REFUSED, code, 1)]


def test_a_failing_engine_is_tried_again_only_when_nobody_else_is_there() -> None:
    play = Play(provider("a"), provider("b"))
    first = play.send()
    [second] = play.tell(Refused(first.attempt, ErrorCode.ENGINE_FAILED))
    assert isinstance(second, Send) and second.provider != first.provider
    [third] = play.tell(Refused(second.attempt, ErrorCode.ENGINE_FAILED))
    assert isinstance(third, Send)


@pytest.mark.parametrize("ours", [True, False])
def test_an_answer_that_is_lost_here_is_not_held_against_its_provider(ours: bool) -> None:
    play = Play(provider("a"))
    for _ in range(2):
        send = play.send()
        play.tell(Refused(send.attempt, None, ours))
        play.tell(Drop((send.slot,)))
    assert len(sends(play.add())) == (1 if ours else 0)


def test_a_job_that_four_providers_failed_is_given_up() -> None:
    play = Play(*(provider(f"p{n}") for n in range(9)))
    send = play.send()
    for _ in range(3):
        [send] = sends(play.tell(Refused(send.attempt, None)))
    assert play.tell(Refused(send.attempt, None)) == [GiveUp(0, Failure.EXHAUSTED, None, 4)]


def test_a_provider_that_missed_two_deadlines_in_a_row_rests_and_longer_each_time() -> None:
    play = Play(provider("dead"), attempts=99)
    play.send(timeout=1_000)
    sent_at = []
    while play.now < 200:
        for send in sends(play.wait(0.1)):
            sent_at.append(round(play.now))
            play.tell(Published(send.attempt))
    assert sent_at == [5, 40, 105]


def test_silence_is_no_failure_so_a_lossy_relay_exhausts_no_job() -> None:
    play = Play(*(provider(f"p{n}") for n in range(9)), attempts=4, hedge_share=0)
    play.send()
    for _ in range(7):
        [again] = sends(play.wait(5.1))
        play.tell(Published(again.attempt))
    assert again.slot == 0
    play.tell(Acknowledged(again.attempt))
    assert play.tell(Answered(again.attempt)) == [Deliver(0, again.attempt, 8)]


def test_there_is_an_end_to_asking_the_silent() -> None:
    play = Play(*(provider(f"p{n}") for n in range(9)), silences=3, hedge_share=0)
    play.send()
    for _ in range(2):
        [again] = sends(play.wait(5.1))
        play.tell(Published(again.attempt))
    assert GiveUp(0, Failure.EXHAUSTED, None, 3) in play.wait(5.1)


def test_who_is_silent_twice_rests_but_not_where_everybody_is_now_and_then() -> None:
    quiet, lossy = Play(provider("a"), hedge_share=0), Play(provider("a"), hedge_share=0)
    lossy.dispatcher._silence.share = 0.25
    for play, enough in ((quiet, 2), (lossy, 4)):
        play.add(1)
        standing = play.dispatcher._roster.standing_of("a")
        for silent in range(1, enough + 1):
            play.tell(Published(play.dispatcher.last_attempt))
            play.wait(5.1)
            assert standing.silences == silent and standing.rests(play.now) is (silent == enough)
        assert standing.pace.seconds == 0.0


def test_one_word_says_that_its_provider_is_not_lost() -> None:
    play = Play(provider("a"), hedge_share=0)
    for _ in range(3):
        send = play.send()
        play.wait(5.1)
        play.tell(Answered(send.attempt))
        assert play.dispatcher._roster.standing_of("a").silences == 0


def test_leaving_and_coming_back_does_not_clear_a_bad_record() -> None:
    play = Play(provider("dead"), attempts=99)
    send = play.send(timeout=1_000)
    [_, again] = play.wait(5.1)
    assert isinstance(again, Send) and send.provider == again.provider
    play.tell(Published(again.attempt))
    play.wait(5.1)
    play.tell(ProviderDown("dead"))
    assert play.tell(ProviderUp(provider("dead"))) == []


def test_one_that_refuses_everything_is_left_alone() -> None:
    play = Play(provider("sour", tokens_out_per_s=1e6), provider("sweet", slots=50, tokens_out_per_s=1.0))
    asked = 0
    for _ in range(20):
        for send in sends(play.add()):
            while send.provider == "sour":
                asked += 1
                [send] = sends(play.tell(Refused(send.attempt, ErrorCode.UNSUPPORTED_PARAM)))
            play.tell(Answered(send.attempt))
    assert asked == 5


def test_a_request_that_no_relay_takes_is_sent_three_times_and_nobody_is_blamed() -> None:
    play = Play(provider("a"))
    play.add()
    [first] = sends(play.commands)
    [second] = sends(play.tell(SendFailed(first.attempt)))
    [third] = sends(play.tell(SendFailed(second.attempt)))
    assert play.tell(SendFailed(third.attempt)) == [GiveUp(0, Failure.NOT_SENT, None, 3)]
    assert play.send().provider == "a"


@pytest.mark.parametrize("at", range(3))
def test_when_a_relay_may_have_passed_on_one_of_the_three_requests_the_job_is_not_said_to_be_unsent(at: int) -> None:
    play = Play(provider("a"))
    commands = play.add()
    for n in range(3):
        [send] = sends(commands)
        commands = play.tell(SendFailed(send.attempt, unknown=n == at))
    assert commands[-1] == GiveUp(0, Failure.UNCONFIRMED, None, 3)


PAID_JOB = Add((SlotJob(0, Need(network="play", bid=Msat(100)), 120.0, 1e4, 0, 1, run=1),))


def test_a_request_that_a_silent_relay_may_have_passed_on_is_cancelled_and_its_cost_stays_set_aside() -> None:
    play = Play(*(provider(name, network="play", price=Price(Msat(90))) for name in "ab"))
    play.tell(Fund(1, 200))
    [first] = sends(play.tell(PAID_JOB))
    cancelled, second = play.tell(SendFailed(first.attempt, unknown=True))
    assert cancelled == CancelAttempt(0, first.attempt, first.provider) and isinstance(second, Send)
    budget = play.dispatcher.budget(1)
    assert (budget.reserved, budget.open) == (90, 90) and play.dispatcher.is_open(first.attempt)
    play.tell(Answered(second.attempt, 90))
    # Its receipt comes late, and is counted.
    play.tell(Charged(first.attempt, 90))
    assert (budget.spent, budget.most) == (180, 180)


def test_what_a_silent_relay_may_have_is_waited_for_where_the_run_cannot_pay_for_a_second() -> None:
    play = Play(*(provider(name, network="play", price=Price(Msat(90))) for name in "ab"))
    play.tell(Fund(1, 100))
    [first] = sends(play.tell(PAID_JOB))
    assert play.tell(SendFailed(first.attempt, unknown=True)) == []
    assert play.tell(Answered(first.attempt, 90)) == [Deliver(0, first.attempt, 1)]
    assert play.dispatcher.budget(1).most == 90


def test_what_cannot_be_made_for_one_is_tried_with_another_and_held_against_nobody() -> None:
    play = Play(provider("quick"), provider("slow"))
    for _ in range(2):
        [send] = sends(play.add())
        play.tell(Published(send.attempt))
        play.now += 0.1 if send.provider == "quick" else 9.0
        play.tell(Answered(send.attempt))
    for _ in range(8):
        [first] = sends(play.add())
        [second] = sends(play.tell(SendFailed(first.attempt, unmade=True)))
        assert (first.provider, second.provider) == ("quick", "slow")
        play.tell(Drop((second.slot,)))


def test_what_is_too_large_for_where_everybody_is_reached_ends_so_and_no_provider_is_left_alone_for_it() -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    play = Play(*map(provider, names))
    for n in range(8):
        commands = play.add()
        asked = []
        while found := sends(commands):
            asked.append(found[0].provider)
            assert len(asked) <= len(names), "nobody is asked twice"
            commands = play.tell(SendFailed(found[0].attempt, unmade=True, too_large=True))
        assert sorted(asked) == names
        assert commands == [GiveUp(n, Failure.TOO_LARGE, None, len(names))]


def test_what_is_too_large_for_one_and_refused_by_another_ends_with_what_that_said() -> None:
    play = Play(provider("a"), provider("b"))
    [first] = sends(play.add())
    [second] = sends(play.tell(SendFailed(first.attempt, unmade=True, too_large=True)))
    assert play.tell(Refused(second.attempt, ErrorCode.UNSUPPORTED_PARAM)) == [
        GiveUp(0, Failure.REFUSED, ErrorCode.UNSUPPORTED_PARAM, 2)
    ]


def test_a_dropped_slot_is_cancelled_and_ends_with_what_was_said() -> None:
    play = Play(provider("a"))
    send = play.send()
    assert play.tell(Drop((0, 99), Failure.TOO_LARGE)) == [
        CancelAttempt(0, send.attempt, "a"),
        GiveUp(0, Failure.TOO_LARGE, None, 1),
    ]
    assert play.tell(Drop((0,))) == []


def slow_tail(need: Need = NEED, **known: Any) -> tuple[Play, Send]:
    """Thirty jobs of a second each on thirty providers, of which one stays silent, and one provider idle."""
    play = Play(*(provider(f"p{n}", **known) for n in range(31)))
    out = sends(play.add(30, need=need))
    for send in out:
        play.tell(Published(send.attempt))
    play.wait(1.0)
    for send in out[1:]:
        play.tell(Answered(send.attempt))
    return play, out[0]


def test_the_slow_tail_goes_to_a_second_provider_and_the_first_answer_wins() -> None:
    play, straggler = slow_tail()
    [hedge] = play.wait(1.0)
    assert isinstance(hedge, Send) and hedge.hedge and hedge.slot == straggler.slot
    assert hedge.provider != straggler.provider
    assert play.wait(1.0) == []
    assert play.tell(Answered(hedge.attempt)) == [
        CancelAttempt(straggler.slot, straggler.attempt, straggler.provider),
        Deliver(straggler.slot, hedge.attempt, 2),
    ]


@pytest.mark.parametrize(("back", "hedged"), [(100, False), (190, True)])
def test_nothing_is_asked_twice_while_most_of_what_went_out_is_still_out(back: int, hedged: bool) -> None:
    play = Play(*(provider(f"p{n}") for n in range(250)))
    out = sends(play.tell(Add(tuple(SlotJob(n, NEED, 120.0, 1e4) for n in range(200)))))
    for send in out:
        play.tell(Published(send.attempt))
    play.now += 0.1
    for send in out[:back]:
        play.tell(Answered(send.attempt))
    assert bool(sends(play.wait(3.0))) == hedged


def test_after_a_pause_of_the_program_nothing_is_sent_for_a_slot_that_is_over() -> None:
    play, straggler = slow_tail()
    play.now += 500.0
    assert [type(command) for command in play.tell(Tick())] == [CancelAttempt, GiveUp]
    assert not play.dispatcher.is_live(straggler.attempt)


def test_when_one_of_two_fails_the_other_goes_on_alone() -> None:
    play, straggler = slow_tail()
    [hedge] = sends(play.wait(1.0))
    assert play.tell(Refused(straggler.attempt, ErrorCode.ENGINE_FAILED)) == []
    assert play.tell(Answered(hedge.attempt)) == [Deliver(straggler.slot, hedge.attempt, 2)]


@pytest.mark.parametrize("of_use", [0, 1])
def test_a_job_whose_second_try_came_to_nothing_is_tried_a_third_time_and_does_not_wait_for_its_deadline(
    of_use: int,
) -> None:
    play, straggler = slow_tail()
    play.tell(Acknowledged(straggler.attempt))
    [hedge] = sends(play.wait(1.0))
    play.tell(Published(hedge.attempt))
    # One of the two is alone again, whichever it is.
    play.tell(Refused((hedge.attempt, straggler.attempt)[of_use], ErrorCode.ENGINE_FAILED))
    [third] = sends(play.wait(3.0))
    assert (third.slot, third.hedge) == (straggler.slot, True)
    assert third.provider not in {straggler.provider, hedge.provider}
    assert sends(play.wait(3.0)) == []


def test_one_job_is_hedged_three_times_and_leaves_the_rest_to_others() -> None:
    play, straggler = slow_tail()
    for number in range(3):
        [hedge] = sends(play.wait(2.0))
        assert hedge.slot == straggler.slot, number
        play.tell(Published(hedge.attempt))
        play.tell(Refused(hedge.attempt, ErrorCode.BUSY))
    assert sends(play.wait(6.0)) == []


def test_while_more_jobs_are_about_to_come_nothing_is_hedged() -> None:
    play, straggler = slow_tail()
    play.tell(Coming(5))
    assert play.dispatcher.unfilled == play.dispatcher.open + 5
    assert sends(play.wait(3.0)) == []
    play.tell(Coming(0))
    [hedge] = sends(play.wait(3.0))
    assert (hedge.slot, hedge.hedge) == (straggler.slot, True)


def test_nothing_is_hedged_to_whoever_wants_money() -> None:
    priced = Need(bid=Msat(1), network="play")
    play, _ = slow_tail(priced, price=Price(Msat(1)), network="play")
    assert sends(play.wait(3.0)) == []
    free, _ = slow_tail(priced)
    assert len(sends(free.wait(3.0))) == 1


@pytest.mark.parametrize(("budget", "hedged"), [(None, 1), (31, 1), (30, 0)])
def test_paid_work_is_hedged_where_money_or_credit_of_ours_is_as_far_as_the_budget_goes(
    budget: int | None, hedged: int
) -> None:
    priced = Need(bid=Msat(1), network="play")
    play, _ = slow_tail(priced, price=Price(Msat(1)), network="play", funded=lambda: True)
    # Thirty jobs went out before: they count, and what they were charged does.
    play.tell(Fund(0, budget and budget - 30))
    second = sends(play.wait(1.5))
    assert [send.hedge for send in second] == [True] * hedged
    if budget is not None:
        assert play.dispatcher.budget_left(0) == budget - 30 - hedged


def test_a_second_opinion_that_is_slow_goes_to_another_of_those_it_is_for() -> None:
    play, straggler = slow_tail()
    play.tell(Drop((straggler.slot,)))
    [first] = sends(play.tell(Add((SlotJob(100, NEED, 120.0, 1e4, to=("p1", "p2")),))))
    play.tell(Published(first.attempt))
    [second] = sends(play.wait(2.0))
    assert (first.provider, second.provider, second.hedge) == ("p1", "p2", True)


def test_the_last_jobs_of_a_run_do_not_go_to_the_slowest_machine() -> None:
    play = Play(*(provider(f"p{n}") for n in range(4)), provider("snail", tokens_out_per_s=1.0))
    job = 0
    last: dict[str, int] = {}
    running = sends(play.tell(Add(tuple(SlotJob(n, NEED, 120, 1e4, 0, 50) for n in range(60)))))
    while play.dispatcher.open:
        for send in running:
            play.tell(Published(send.attempt))
            last[send.provider] = max(last.get(send.provider, 0), send.slot)
        before = len(play.commands)
        play.wait(1.0)
        for send in running:
            if send.provider != "snail":
                play.tell(Answered(send.attempt))
        job += 1
        running = sends(play.commands[before:])
        if job > 60:
            break
    assert last.get("snail", 0) < 50


def test_a_free_slot_is_shared_between_needs_in_turn() -> None:
    play = Play(provider("a", slots=100, models=(OfferedModel("m"), OfferedModel("n"))), width=2)
    play.add(50, need=Need(model="m"))
    play.add(50, need=Need(model="n"))
    served = {0: 0, 1: 0}
    for _ in range(20):
        live = [send for send in sends(play.commands) if play.dispatcher.is_live(send.attempt)]
        served[live[0].slot // 50] += 1
        play.tell(Answered(live[0].attempt))
    assert min(served.values()) >= 8


def test_those_a_lane_left_out_are_taken_in_when_half_of_its_own_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "ENOUGH", 4)
    everybody = {f"p{n}" for n in range(10)}
    play = Play(*map(provider, sorted(everybody)))
    asked = set[str]()
    for _ in everybody:
        send = play.send()
        asked.add(send.provider)
        play.tell(Answered(send.attempt))
        play.tell(ProviderDown(send.provider))
    assert asked == everybody


def test_a_thousand_different_needs_leave_a_bounded_number_of_lanes() -> None:
    play = Play(provider("a", models=tuple(OfferedModel(f"m{n}") for n in range(100))))
    for n in range(100):
        play.tell(Answered(play.send(need=Need(model=f"m{n}")).attempt))
    assert len(play.dispatcher._roster._lanes) == len(play.dispatcher._roster.turns) == LANES


def test_timers_of_finished_jobs_do_not_pile_up() -> None:
    play = Play(provider("a"))
    for _ in range(3_000):
        play.tell(Answered(play.send().attempt))
    assert len(play.dispatcher._timers) <= 2_048
    assert not play.dispatcher._in_flight.attempts and not play.dispatcher.open


def test_jobs_that_end_with_their_run_share_the_timer_of_its_deadline() -> None:
    play = Play(provider("a", slots=10, slots_free=10))
    assert len(sends(play.add(10, timeout=60.0, deadline=50.0))) == 10
    # One for all of them, and one for the answer to each.
    assert len(play.dispatcher._timers) == 11
    assert [type(one) for one in play.wait(51.0) if isinstance(one, GiveUp)] == [GiveUp] * 10


def test_the_next_due_time_is_when_a_tick_can_matter() -> None:
    play = Play(provider("a"), hedge_share=0.0)
    assert first_due(play.dispatcher._timers) is None
    play.send()
    assert first_due(play.dispatcher._timers) == 5.0


def test_what_we_think_of_a_provider_counts_though_it_says_nothing_new() -> None:
    names = "abcdefgh"
    play = Play(*(provider(name, slots=4, slots_free=4) for name in names))
    for name in names[1:]:
        play.tell(ProviderUp(provider(name, slots=4, slots_free=4, trust=0.1)))
    assert play.send().provider == "a"
    play.tell(ProviderUp(provider("a", slots=4, slots_free=4, width=0)))
    assert play.send().provider != "a"


def test_a_model_that_was_refused_for_one_need_is_not_asked_for_by_another_once_the_provider_is_seen_anew() -> None:
    refusing, short, long = provider("a", models=(OfferedModel("m"),)), Need(model="m"), Need(model="m", context=8)
    play = Play(refusing)
    first, second = play.send(need=short), play.send(need=long)
    play.tell(Answered(second.attempt))
    play.tell(Refused(first.attempt, ErrorCode.UNSUPPORTED_MODEL))
    play.tell(ProviderUp(refusing))
    assert sends(play.add(need=long)) == []


def test_who_wants_to_be_paid_is_told_to_stop_and_the_job_goes_elsewhere() -> None:
    play = Play(provider("a"), provider("b"))
    first = play.send()
    cancel, again = play.tell(Refused(first.attempt, None, unpaid=True))
    assert cancel == CancelAttempt(0, first.attempt, first.provider)
    assert isinstance(again, Send) and {first.provider, again.provider} == {"a", "b"}


def test_a_job_that_all_want_to_be_paid_for_ends_and_says_so() -> None:
    play = Play(provider("a"), provider("b"))
    first = play.send()
    [again] = play.tell(Refused(first.attempt, ErrorCode.TOO_LARGE))
    assert isinstance(again, Send)
    *_, end = play.tell(Refused(again.attempt, None, unpaid=True))
    assert end == GiveUp(0, Failure.UNPAID, None, 2), "the code of another is not what was said last"


def test_what_somebody_else_refuses_last_is_why_a_job_ends() -> None:
    play = Play(provider("a"), provider("b"))
    first = play.send()
    _, again = play.tell(Refused(first.attempt, None, unpaid=True))
    assert isinstance(again, Send)
    *_, end = play.tell(Refused(again.attempt, ErrorCode.TOO_LARGE))
    assert end == GiveUp(0, Failure.REFUSED, ErrorCode.TOO_LARGE, 2)
