"""Second opinions that are asked for beside the question itself."""

import random
from dataclasses import replace
from typing import Any

import pytest

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.codes import ErrorCode
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.swarm.checks.allowance import Purpose
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.commands import Accept, Ask, Wait
from pylon.swarm.checks.early_opinions import Question
from pylon.swarm.checks.reputation import PROVEN, Reputation, Seen
from pylon.swarm.circle import Circle
from pylon.swarm.compose import job_of
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.dispatch.messages import CancelAttempt, Failure, Published, Refused, Send, SlotJob, Tick
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.places import Fail, Fill, Piece
from pylon.swarm.settings import CheckSettings, DispatchSettings, SwarmSettings
from tests.swarm.virtual import HOP_S, JOB_S, Bench

MODEL = OfferedModel("m", "ab" * 32)
ANSWER = Answer("so it is", "a", "m", MODEL.sha256, Usage(4, 3), Finish.STOP, 0, 90, 100, 1, "request", "result")
ASKED = JobSpec("how is it?")
RUN, SLOT = 1, 0


class Desk:
    """Checks, one question that is on its way to `a`, and who might be asked it too."""

    def __init__(self, *others: str, jobs: int = 100) -> None:
        self.reputation = Reputation()
        self.checks = Checks(CheckSettings(), self.reputation, random.Random(1))
        for provider in ("a", *others):
            self.checks.observe(ProviderUp(Listing(provider, models=(MODEL,))))
        self.checks.added(RUN, jobs)

    def beside(self, slot: int = SLOT, *, asked: JobSpec = ASKED) -> list[Ask]:
        commands = self.checks.beside([Question(RUN, slot, asked, "a")], 1)
        assert all(isinstance(command, Ask) for command in commands)
        return commands  # type: ignore[return-value]

    def answered(self, slot: int = SLOT, **changes: object) -> list[object]:
        return list(self.checks.answered(RUN, slot, ASKED, replace(ANSWER, **changes), 0.0))  # type: ignore[arg-type]

    def second(self, provider: str, text: str = "so it is", slot: int = SLOT) -> list[object]:
        return list(self.checks.second(slot, replace(ANSWER, provider=provider, text=text), 0.0))

    def prove(self, *names: str) -> None:
        """They have passed what makes them known, and are checked by turns."""
        for name in names:
            for _ in range(PROVEN):
                self.reputation.note(name, Seen.PASSED, 0.0)


def how(commands: list[object]) -> list[tuple[str, ...]]:
    return [command.how for command in commands if isinstance(command, Accept)]


def test_an_answer_that_two_have_been_asked_for_waits_for_the_other_only() -> None:
    desk = Desk("b")
    assert desk.beside() == [Ask(SLOT, ("b",), None)]
    [wait] = desk.answered()
    assert isinstance(wait, Wait) and wait.within_s >= 5.0
    assert how(desk.second("b")) == [("plausible", "compared")]


def test_an_opinion_that_comes_first_is_there_when_the_answer_comes() -> None:
    desk = Desk("b")
    desk.beside()
    assert desk.second("b") == []
    assert how(desk.answered()) == [("plausible", "compared")]


def test_two_that_differ_are_decided_by_a_third() -> None:
    desk = Desk("b", "c")
    [ask] = desk.beside()
    desk.second(ask.to[0], "not so")
    [third] = desk.answered()
    assert isinstance(third, Ask) and third.to[0] not in ("a", ask.to[0]) and third.within_s is not None
    assert how(desk.second(third.to[0])) == [("plausible", "compared")]


def test_nobody_confirms_itself() -> None:
    # The question that `a` left went to `b`, who had it already.
    desk = Desk("b")
    desk.beside()
    desk.second("b")
    assert "compared" not in how([*desk.answered(provider="b"), *desk.second("b"), *desk.checks.no_second(SLOT, 0.0)])
    record = desk.reputation.get("b")
    assert record is None or not record.passed


def test_an_opinion_that_does_not_come_leaves_the_answer_to_be_checked_as_ever() -> None:
    desk = Desk("b", "c")
    [ask] = desk.beside()
    assert desk.checks.no_second(SLOT, 0.0) == []
    [again] = desk.answered()
    assert isinstance(again, Ask) and again.to == ask.to


@pytest.mark.parametrize(("text", "asked"), [("so it is", False), ("", True)])
def test_a_sample_that_was_not_drawn_on_its_way_is_taken_as_it_came_unless_it_is_hardly_believable(
    text: str, asked: bool
) -> None:
    desk = Desk("b", "c", jobs=40)
    desk.prove("a", "b", "c")
    slots = range(40)
    drawn = {ask.slot for slot in slots for ask in desk.beside(slot)}
    passed_over = next(slot for slot in slots if slot not in drawn)
    assert any(isinstance(command, Ask) for command in desk.answered(passed_over, text=text)) is asked


def test_a_stranger_s_first_answer_is_checked_though_it_was_not_drawn_on_its_way() -> None:
    # Nobody to ask was there yet.
    desk = Desk()
    assert desk.beside() == []
    desk.checks.observe(ProviderUp(Listing("b", models=(MODEL,))))
    assert isinstance(desk.answered()[0], Ask)


def test_who_leaves_a_question_that_was_drawn_to_others_is_checked_with_its_next_answer() -> None:
    desk = Desk("b", "c", jobs=40)
    desk.prove("a", "b", "c")
    slots = iter(range(40))
    left = next(slot for slot in slots if desk.beside(slot))
    desk.checks.moved_on(left)
    passed_over = next(slot for slot in slots if not desk.beside(slot))
    assert any(isinstance(command, Ask) for command in desk.answered(passed_over)) is (
        desk.checks._allowance.affords(Purpose.SAMPLE)
    )
    assert not desk.checks._early_opinions.owes("a")


def test_of_a_run_that_is_over_nobody_owes_an_answer_to_what_was_drawn() -> None:
    desk = Desk("b", "c", jobs=40)
    desk.prove("a", "b", "c")
    drawn = next(slot for slot in range(40) if desk.beside(slot))
    desk.checks.closed(RUN, range(40))
    desk.checks.moved_on(drawn)
    assert not desk.checks._early_opinions.owes("a") and not desk.checks._early_opinions._early


def test_what_chance_has_a_part_in_is_not_compared() -> None:
    asked = replace(ASKED, temperature=0.7)
    desk = Desk("b")
    assert desk.beside(asked=asked) == []
    assert how(list(desk.checks.answered(RUN, SLOT, asked, ANSWER, 0.0))) == [("plausible",)]
    assert desk.checks.examination.asked == 0


def test_samples_that_are_drawn_ahead_cost_no_more_than_the_answers_will_bring() -> None:
    names = [f"p{n}" for n in range(40)]
    desk = Desk(*names, jobs=200)
    desk.prove(*names)
    asks = desk.checks.beside([Question(RUN, n, ASKED, name) for n, name in enumerate(names)], 160)
    # Of 200 jobs' share a fifth, and what was carried.
    assert 1 <= len(asks) <= 0.05 * 200 * 40 / 200 + 1


def test_the_places_of_a_run_that_are_drawn_are_not_its_first() -> None:
    drawn = set()
    for seed in range(20):
        desk = Desk(*(f"p{n}" for n in range(20)))
        desk.checks._early_opinions._rng.seed(seed)
        asks = desk.checks.beside([Question(RUN, n, ASKED, f"p{n}") for n in range(20)], 20)
        drawn |= {ask.slot for ask in asks if isinstance(ask, Ask)}
    assert len(drawn) > 10


def test_of_a_run_that_comes_in_pieces_nobody_is_asked_beside_before_all_of_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(3)
    checks = Checks(CheckSettings(), Reputation(), rng)
    coordinator = Coordinator(Dispatcher(DispatchSettings(width=8), rng), checks, Circle())
    needs = [Need(model=model) for model in "xyz"]
    for n in range(6):
        model = replace(MODEL, id="xyz"[n % 3])
        coordinator.handle(ProviderUp(Listing(f"p{n}", models=(model,), slots=8)), 0.0, 0.0)
    asked: list[int] = []
    monkeypatch.setattr(checks, "beside", lambda questions, waiting: asked.append(waiting) or [])
    run = coordinator.begin(lambda spec, slot: SlotJob(slot, needs[slot % 3], 120.0, 1e4), 12)
    # Of one need no more wait than are on their way.
    coordinator.ask(run, [(n, ASKED) for n in range(9)], 0.0, 0.0, coming=3)
    assert (asked, coordinator.dispatcher.open, coordinator.dispatcher.unfilled) == ([], 9, 12)
    coordinator.ask(run, [(n, ASKED) for n in range(9, 12)], 0.0, 0.0)
    assert asked
    assert coordinator.dispatcher.unfilled == 12


def test_what_was_to_come_of_a_run_that_is_over_is_waited_for_no_longer() -> None:
    rng = random.Random(3)
    coordinator = Coordinator(
        Dispatcher(DispatchSettings(), rng), Checks(CheckSettings(), Reputation(), rng), Circle()
    )
    runs = [coordinator.begin(lambda spec, slot: SlotJob(slot, Need(), 120.0, 1e4), 100) for _ in range(2)]
    for run, coming in zip(runs, (70, 20), strict=True):
        coordinator.ask(run, [(0, ASKED)], 0.0, 0.0, coming=coming)
    assert coordinator.dispatcher.unfilled == 92
    coordinator.end(runs[0], 0.0, 0.0)
    assert coordinator.dispatcher.unfilled == 21


class Play:
    """A coordinator with strangers who have two jobs each, and a run of half as many again."""

    def __init__(self, names: str = "abc") -> None:
        rng = random.Random(2)
        self.checks = Checks(CheckSettings(), Reputation(), rng)
        self.coordinator = Coordinator(Dispatcher(DispatchSettings(), rng), self.checks, Circle())
        for name in names:
            self.coordinator.handle(ProviderUp(Listing(name, models=(MODEL,), width=2)), 0.0, 0.0)
        run = self.coordinator.begin(lambda spec, slot: SlotJob(slot, Need(), 120.0, 1e4), 3 * len(names))
        self.sends = self.sent(self.coordinator.ask(run, [(n, ASKED) for n in range(3 * len(names))], 0.0, 0.0))
        for send in self.sends:
            self.coordinator.handle(Published(send.attempt), 0.0, 0.0)

    @staticmethod
    def sent(commands: list[Any]) -> list[Send]:
        return [command for command in commands if isinstance(command, Send)]

    def answer(self, send: Send, now: float, text: str = "so it is") -> list[Any]:
        answer = replace(ANSWER, provider=send.provider, latency_ms=round(1_000 * now), text=text)
        return self.coordinator.answered(send.slot, send.attempt, answer, now, now)

    def opinion(self, now: float) -> tuple[Send, Send]:
        """Answers what is out until a second opinion goes out beside its question: both."""
        waiting = list(self.sends)
        while waiting:
            pieces = self.coordinator.pieces.by_slot
            held = {piece.opinion_of for piece in pieces.values()}
            send = next(one for one in waiting if one.slot not in held)
            waiting.remove(send)
            for more in self.sent(self.answer(send, now)):
                of = pieces[more.slot].opinion_of
                if of is not None:
                    return next(one for one in self.sends if one.slot == of), more
                waiting.append(more)
        raise AssertionError("no opinion was asked for")


def test_a_second_opinion_looks_like_any_other_question() -> None:
    play = Play()
    first, second = play.opinion(1.0)
    assert first.provider != second.provider
    assert second.expires_at - 1.0 == pytest.approx(first.expires_at)
    assert (first.hedge, first.relay) == (second.hedge, second.relay)


def test_the_other_is_waited_for_only_so_long_after_the_answer_is_there() -> None:
    play = Play()
    first, second = play.opinion(1.0)
    place = play.coordinator.pieces.place_of(first.slot)
    assert not any(isinstance(command, Fill) and command.place == place for command in play.answer(first, 2.0))
    after = play.coordinator.handle(Tick(), 10.1, 10.1)
    assert any(isinstance(c, CancelAttempt) and c.provider == second.provider for c in after)


@pytest.mark.parametrize("code", [None, ErrorCode.UNSUPPORTED_PARAM])
def test_a_witness_may_be_the_only_one_left_who_can_answer(code: ErrorCode | None) -> None:
    play = Play("ab")
    first, second = play.opinion(1.0)
    out = play.coordinator.handle(Refused(first.attempt, code), 1.1, 1.1)
    out += play.coordinator.handle(ProviderDown(first.provider), 1.2, 1.2)
    for send in [send for send in play.sends if send.provider == second.provider]:
        out += play.answer(send, 1.3)
    assert not [command for command in out if isinstance(command, Fail)]
    assert [send.provider for send in play.sent(out) if send.slot == first.slot] == [second.provider]


def test_a_question_that_goes_to_somebody_else_is_nobody_s_to_confirm_and_its_first_provider_owes_an_answer() -> None:
    play = Play()
    first, second = play.opinion(1.0)
    out = play.coordinator.handle(Refused(first.attempt, None), 1.1, 1.1)
    for send in [send for send in play.sends if send.provider not in (first.provider, second.provider)]:
        out += play.answer(send, 1.2)
    assert any(send.slot == first.slot for send in play.sent(out))
    assert any(isinstance(c, CancelAttempt) and c.attempt == second.attempt for c in out)
    assert second.slot not in play.coordinator.dispatcher._slots._slots
    assert play.checks._early_opinions.owes(first.provider)


def test_an_opinion_is_taken_back_when_its_question_gets_no_answer() -> None:
    play = Play()
    first, second = play.opinion(1.0)
    out = play.coordinator._given_up
    out(first.slot, Failure.DEADLINE, None, 1, 1.1)
    assert second.slot not in play.coordinator.dispatcher._slots._slots


def test_the_checks_of_a_long_run_are_not_what_it_ends_with() -> None:
    bench = Bench(64)
    bench.run()
    assert bench.checks.examination.asked >= 0.03 * bench.jobs
    # Whole rounds: those of the jobs and of their checks.
    assert bench.now <= -(-bench.sent // 64) * JOB_S + 6 * HOP_S


def test_what_was_on_its_way_for_a_run_that_is_over_is_not_looked_at_beside_another() -> None:
    rng, settings = random.Random(7), SwarmSettings()
    checks = Checks(CheckSettings(), Reputation(), rng)
    coordinator = Coordinator(Dispatcher(DispatchSettings(overcommit=1.0), rng), checks, Circle())
    coordinator.handle(ProviderUp(Listing("a" * 64, slots=2)), 0.0, 0.0)

    def begin(jobs: int, coming: int = 0) -> int:
        run = coordinator.begin(
            lambda spec, slot: job_of(slot, spec, settings, Circle(), deadline=100.0), jobs + coming
        )
        coordinator.ask(run, [(n, JobSpec(f"question {n}")) for n in range(jobs)], 0.0, 0.0, coming=coming)
        return run

    over, other = begin(1, coming=5), begin(1, coming=5)
    coordinator.end(over, 1.0, 1.0)
    coordinator.end(other, 1.0, 1.0)
    begin(3)
    coordinator.handle(Tick(), 2.0, 2.0)
    assert coordinator.dispatcher.open == 3


class Looks(dict[int, Piece]):
    """Counts who is looked at."""

    count = 0

    def __getitem__(self, slot: int) -> Piece:
        self.count += 1
        return super().__getitem__(slot)


def test_the_end_of_one_question_looks_at_no_other_that_is_out() -> None:
    rng, settings = random.Random(7), SwarmSettings()
    coordinator = Coordinator(
        Dispatcher(DispatchSettings(), rng), Checks(CheckSettings(), Reputation(), rng), Circle()
    )
    for number in range(200):
        coordinator.handle(ProviderUp(Listing(f"{number:064x}", slots=4)), 0.0, 0.0)

    def begin(question: str, jobs: int) -> int:
        run = coordinator.begin(lambda spec, slot: job_of(slot, spec, settings, Circle(), deadline=100.0), jobs)
        coordinator.ask(run, [(n, JobSpec(f"{question} {n}")) for n in range(jobs)], 0.0, 0.0, coming=1)
        return run

    many = begin("map", 20)
    runs = [begin(f"question {n}", 1) for n in range(100)]
    assert len(sent(coordinator)) == 120, "each is on its way, and not looked at for a second opinion yet"
    coordinator.pieces.by_slot = coordinator._pieces = looks = Looks(coordinator.pieces.by_slot)
    coordinator.end(runs.pop(), 1.0, 1.0)
    assert looks.count < 5 and len(sent(coordinator)) == 119
    coordinator.end(many, 1.0, 1.0)
    assert len(sent(coordinator)) == 99
    # One that has had more than are on their way: these are looked at then.
    for run in runs[1:]:
        coordinator.end(run, 1.0, 1.0)
    last = begin("map", 20)
    for slot in list(coordinator.pieces.of_run(last))[:-1]:
        coordinator._unwatch(slot)
    looks.count = 0
    coordinator.end(last, 1.0, 1.0)
    assert looks.count < 5 and len(sent(coordinator)) == 1


def sent(coordinator: Coordinator) -> set[int]:
    return {slot for slots in coordinator._sent.values() for slot in slots}
