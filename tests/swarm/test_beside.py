"""Second opinions that are asked for beside the question itself."""

import random
from dataclasses import replace

import pytest

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.result import Finish, Usage
from pylon.swarm.beside import Question
from pylon.swarm.check_moves import Accept, Ask, Wait
from pylon.swarm.checks import Checks
from pylon.swarm.coordinator import Coordinator
from pylon.swarm.directory import ProviderUp
from pylon.swarm.dispatch import Dispatcher
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.listing import Listing, Need
from pylon.swarm.moves import CancelAttempt, Job, Published, Send, Tick
from pylon.swarm.places import Fill
from pylon.swarm.reputation import PROVEN, Reputation, Seen
from pylon.swarm.settings import CheckSettings, DispatchSettings
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

    def beside(self, *, idle: bool = True, asked: JobSpec = ASKED) -> list[Ask]:
        commands = self.checks.beside([Question(RUN, SLOT, asked, "a")], lambda _: idle)
        assert all(isinstance(command, Ask) for command in commands)
        return commands  # type: ignore[return-value]

    def answered(self, **changes: object) -> list[object]:
        return list(self.checks.answered(RUN, SLOT, ASKED, replace(ANSWER, **changes), 0.0))  # type: ignore[arg-type]

    def second(self, provider: str, text: str = "so it is") -> list[object]:
        return list(self.checks.second(SLOT, replace(ANSWER, provider=provider, text=text), 0.0))


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


def test_what_was_not_drawn_on_its_way_is_not_drawn_again_unless_it_is_hardly_believable() -> None:
    for text, asked in (("so it is", False), ("", True)):
        desk = Desk("b")
        desk.checks.beside([Question(RUN, 7, ASKED, "a")], None)
        # One answer of `a` is under examination: no other one is drawn.
        assert desk.beside() == []
        desk.checks.answered(RUN, 7, ASKED, ANSWER, 0.0)
        desk.checks.second(7, replace(ANSWER, provider="b"), 0.0)
        assert any(isinstance(command, Ask) for command in desk.answered(text=text)) is asked


def test_where_nobody_is_idle_the_answer_is_checked_when_it_comes() -> None:
    desk = Desk("b")
    assert desk.beside(idle=False) == []
    assert isinstance(desk.answered()[0], Ask)


def test_whose_question_brought_nothing_is_examined_with_its_next_one() -> None:
    desk = Desk("b")
    desk.beside()
    desk.checks.given_up(SLOT)
    assert desk.second("b") == []
    assert [ask.to for ask in desk.beside()] == [("b",)]


def test_who_agreed_with_a_provider_lately_is_not_asked_beside_it_for_being_idle() -> None:
    desk = Desk("b")
    desk.beside()
    desk.answered()
    assert how(desk.second("b"))
    assert desk.beside() == []
    desk.checks.observe(ProviderUp(Listing("c", models=(MODEL,))))
    assert [ask.to for ask in desk.beside()] == [("c",)]


def test_what_chance_has_a_part_in_is_not_compared() -> None:
    asked = replace(ASKED, temperature=0.7)
    desk = Desk("b")
    assert desk.beside(asked=asked) == []
    assert how(list(desk.checks.answered(RUN, SLOT, asked, ANSWER, 0.0))) == [("plausible",)]
    assert desk.checks.asked == 0


def test_samples_that_are_drawn_ahead_cost_no_more_than_the_answers_will_bring() -> None:
    names = [f"p{n}" for n in range(40)]
    desk = Desk(*names, jobs=200)
    for name in names:
        for _ in range(PROVEN):
            desk.reputation.note(name, Seen.PASSED, 0.0)
    asks = desk.checks.beside([Question(RUN, n, ASKED, name) for n, name in enumerate(names)], None)
    # Of 200 jobs' share a fifth, and what was carried.
    assert 1 <= len(asks) <= 0.05 * 200 * 40 / 200 + 1


def test_the_places_of_a_run_that_are_drawn_are_not_its_first() -> None:
    drawn = set()
    for seed in range(20):
        desk = Desk(*(f"p{n}" for n in range(20)))
        desk.checks._beside._rng.seed(seed)
        asks = desk.checks.beside([Question(RUN, n, ASKED, f"p{n}") for n in range(20)], None)
        drawn |= {ask.slot for ask in asks if isinstance(ask, Ask)}
    assert len(drawn) > 10


class Play:
    """A coordinator with three idle strangers, and a run of one job."""

    def __init__(self) -> None:
        rng = random.Random(2)
        checks = Checks(CheckSettings(), Reputation(), rng)
        self.coordinator = Coordinator(Dispatcher(DispatchSettings(), rng), checks)
        for name in "abc":
            self.coordinator.handle(ProviderUp(Listing(name, models=(MODEL,), width=2)), 0.0, 0.0)
        run = self.coordinator.begin(lambda spec, slot: Job(slot, Need(), 120.0, 1e4), 1)
        self.sends = self.only(self.coordinator.ask(run, [(0, ASKED)], 0.0, 0.0))
        for send in self.sends:
            self.coordinator.handle(Published(send.attempt), 0.0, 0.0)

    @staticmethod
    def only(commands: list[object]) -> list[Send]:  # type: ignore[type-arg]
        return [command for command in commands if isinstance(command, Send)]

    def answer(self, send: Send, now: float) -> list[object]:
        answer = replace(ANSWER, provider=send.provider, latency_ms=round(1_000 * now))
        return list(self.coordinator.answered(send.slot, send.attempt, answer, now, now))


def test_a_second_opinion_looks_like_the_question_that_it_is_about() -> None:
    first, second = Play().sends
    assert first.provider != second.provider
    assert (first.expires_at, first.hedge, first.relay) == (second.expires_at, second.hedge, second.relay)


def test_an_opinion_that_is_asked_for_later_tells_its_provider_nothing_of_how_long_it_is_waited_for() -> None:
    play = Play()
    first, second = play.sends
    # They differ: a third is asked, and given up after five seconds.
    play.answer(first, 0.1)
    out = play.coordinator.answered(
        second.slot, second.attempt, replace(ANSWER, provider=second.provider, text="not so"), 0.2, 0.2
    )
    [third] = play.only(out)
    assert third.expires_at - 0.2 == pytest.approx(first.expires_at)
    after = play.coordinator.handle(Tick(), 5.3, 5.3)
    assert [c.provider for c in after if isinstance(c, CancelAttempt)] == [third.provider]


def test_the_other_is_waited_for_only_so_long_after_the_answer_is_there() -> None:
    play = Play()
    first, second = play.sends
    assert not any(isinstance(command, Fill) for command in play.answer(first, 1.0))
    after = play.coordinator.handle(Tick(), 6.1, 6.1)
    assert any(isinstance(c, CancelAttempt) and c.provider == second.provider for c in after)


def test_a_run_with_machines_to_spare_takes_no_longer_for_its_checks() -> None:
    bench = Bench(64, strangers=True, jobs=48)
    bench.run()
    assert bench.checks.asked >= 2
    assert bench.now <= JOB_S + 6 * HOP_S


def test_the_checks_of_a_long_run_are_not_what_it_ends_with() -> None:
    bench = Bench(64)
    bench.run()
    assert bench.checks.asked >= 0.03 * bench.jobs
    # Whole rounds: those of the jobs and of their checks.
    assert bench.now <= -(-bench.sent // 64) * JOB_S + 6 * HOP_S
