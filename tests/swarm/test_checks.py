"""Which answers are checked, by the decider alone: whom scarce checks go to, and what an unanswered one is worth."""

import random
from dataclasses import replace
from typing import Any

import pytest

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.swarm.checks.allowance import Purpose
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.commands import Accept, Again, Ask, Changed, CheckCommand, Reopen, Rescore
from pylon.swarm.checks.early_opinions import Question
from pylon.swarm.checks.reputation import FORGIVEN, NEWCOMER_WIDTH, PROVEN, WELL_KNOWN, Reputation, Seen, why
from pylon.swarm.checks.verification import Verdict
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import ProviderUp
from pylon.swarm.providers.listing import Listing
from pylon.swarm.runs.places import Fill, Unfill
from pylon.swarm.settings import CheckSettings
from tests.swarm.crowd_model import WALL, Member, Model, kinds

MODEL = OfferedModel("m", "ab" * 32)
ANSWER = Answer("so it is", "", "m", MODEL.sha256, Usage(4, 3), Finish.STOP, 0, 90, 100, 1, "request", "result")
ASKED = JobSpec("how is it?")
RUN = 1


class Desk:
    """Checks, and the answers that providers give one after the other."""

    def __init__(self, *providers: str, jobs: int = 100) -> None:
        self.reputation = Reputation()
        self.checks = Checks(CheckSettings(), self.reputation, random.Random(1))
        for provider in providers:
            self.checks.observe(ProviderUp(Listing(provider, models=(MODEL,))))
        self.checks.added(RUN, jobs)
        self.slots = 0

    def answers(self, provider: str) -> tuple[int, list[CheckCommand]]:
        slot, self.slots = self.slots, self.slots + 1
        return slot, self.checks.answered(RUN, slot, ASKED, replace(ANSWER, provider=provider), 0.0)


def asks(commands: list[CheckCommand]) -> list[Ask]:
    return [command for command in commands if isinstance(command, Ask)]


def accepts(commands: list[CheckCommand]) -> list[Accept]:
    return [command for command in commands if isinstance(command, Accept)]


def test_a_small_run_s_checks_reach_every_stranger_before_anybody_is_checked_twice() -> None:
    names = [f"p{n}" for n in range(6)]
    desk = Desk(*names)
    asked = [name for _ in range(3) for name in names if asks(desk.answers(name)[1])]
    assert asked == names
    # That used up what this run may cost, its own answers' share included.
    assert desk.checks.examination.asked <= 0.05 * 100 + 1


@pytest.mark.parametrize("seed", range(12))
def test_a_liar_among_a_few_delivers_nothing_whatever_the_dice_say(seed: int) -> None:
    members = [Member(f"honest-{n}") for n in range(5)] + [Member("liar", kinds(text=True)["wrong model"])]
    assert Model(members, seed=seed, text=True).run(100).wrong == 0


def test_a_comparison_that_nobody_answers_is_asked_for_once_more_and_then_proves_nothing() -> None:
    desk = Desk("new", "silent", "mute", jobs=1_000)
    for _ in range(4 * PROVEN):
        slot, commands = desk.answers("new")
        assert asks(commands), "it was not checked yet, so it is still to be"
        assert asks(desk.checks.no_second(slot, 0.0))
        given_up = desk.checks.no_second(slot, 0.0)
        assert not asks(given_up) and len(accepts(given_up)) == 1
        assert "compared" not in accepts(given_up)[0].how
    assert desk.reputation.width("new", 0.0) == NEWCOMER_WIDTH
    assert desk.reputation.trust("new") == 0.5


def test_who_cannot_be_compared_with_anybody_gets_no_more_room_unless_it_is_alone() -> None:
    desk, alone = Desk("own-weights"), Desk("only")
    desk.checks.observe(ProviderUp(Listing("another", models=(OfferedModel("n", "cd" * 32),))))
    for _ in range(30):
        assert accepts(desk.answers("own-weights")[1]) and accepts(alone.answers("only")[1])
    assert desk.reputation.width("own-weights", 0.0) == NEWCOMER_WIDTH
    assert alone.reputation.width("only", 0.0) is None


def test_while_an_answer_is_compared_the_others_of_its_provider_wait_for_no_check_of_their_own() -> None:
    desk = Desk("a", "b", "c")
    first, commands = desk.answers("a")
    [ask] = asks(commands)
    second, commands = desk.answers("a")
    assert accepts(commands) and not asks(commands)
    # What was delivered meanwhile is asked again when the comparison shows a lie.
    other = replace(ANSWER, provider=ask.to[0], text="not so")
    [third] = asks(desk.checks.second(first, other, 0.0))
    found = desk.checks.second(first, replace(other, provider=third.to[0]), 0.0)
    assert [again.slots for again in found if hasattr(again, "slots")] == [(second,)]


def test_whom_nothing_may_go_to_is_asked_for_no_second_opinion() -> None:
    desk = Desk("a", "b")
    for provider in "xyz":
        desk.checks.observe(ProviderUp(Listing(provider, models=(MODEL,), barred="not paid")))
    _, commands = desk.answers("a")
    assert [ask.to for ask in asks(commands)] == [("b",)]
    # One that lost its last peer is alone, and proves itself by answering.
    alone = Desk("a", "b")
    alone.checks.observe(ProviderUp(Listing("b", models=(MODEL,), barred="left out")))
    for _ in range(30):
        assert accepts(alone.answers("a")[1])
    assert alone.reputation.width("a", 0.0) is None


def test_who_became_one_s_own_machine_is_not_left_out_for_what_it_did_before() -> None:
    reputation = Reputation()
    for _ in range(4):
        reputation.note("a", Seen.LOST, 0.0)
    assert reputation.is_out("a", 1.0) and reputation.width("a", 1.0) == 0
    reputation.circle.change(own=frozenset({"a"}), allow=None)
    assert not reputation.is_out("a", 1.0) and reputation.width("a", 1.0) is None


def test_where_checks_are_scarce_they_go_to_those_that_went_longest_without() -> None:
    names = [f"p{n}" for n in range(6)]
    desk = Desk(*names)
    for name in names:
        for _ in range(PROVEN):
            desk.reputation.note(name, Seen.PASSED, 0.0)
    delivered = [desk.answers("p0")[1] for _ in range(4)]
    assert not any(asks(commands) for commands in delivered), "the first samples are granted with later answers"
    while not desk.checks._allowance.affords(Purpose.SAMPLE):
        desk.checks._allowance.answered(RUN)
    assert not asks(desk.answers("p1")[1])
    assert asks(desk.answers("p0")[1])


def test_an_opinion_of_somebody_who_was_caught_meanwhile_counts_for_nothing() -> None:
    desk = Desk("a", "b", "c")
    slot, commands = desk.answers("a")
    [ask] = asks(commands)
    liar = ask.to[0]
    desk.checks.note(liar, Seen.FORGED, 0.0, "")
    found = desk.checks.second(slot, replace(ANSWER, provider=liar), 0.0)
    assert not accepts(found) and [again.to[0] != liar for again in asks(found)] == [True]


def test_what_is_under_way_from_somebody_who_was_caught_is_asked_again_without_a_check() -> None:
    desk = Desk("a", "b", "c")
    desk.checks.note("a", Seen.FORGED, 0.0, "")
    slot, commands = desk.answers("a")
    assert commands == [Again((slot,), "a")]


def test_whose_answers_a_liar_confirmed_is_checked_anew_and_loses_them_if_it_lies_too() -> None:
    desk = Desk("a", "b", "c", "d")
    slot, commands = desk.answers("a")
    confirmed, _ = desk.answers("a")
    [ask] = asks(commands)
    liar = ask.to[0]
    assert accepts(desk.checks.second(slot, replace(ANSWER, provider=liar), 0.0))
    desk.checks.note(liar, Seen.FORGED, 0.0, "")
    desk.checks._allowance.left = 0.0
    assert asks(desk.answers("a")[1]), "however little is left for checks"
    caught = desk.checks.note("a", Seen.FORGED, 0.0, "")
    assert [again.slots for again in caught if isinstance(again, Again)] == [(confirmed, slot)]


def test_two_hardly_believable_answers_prove_nothing_against_one_that_is_believable() -> None:
    desk = Desk("a", "b", "c")
    echo = replace(ANSWER, text=ASKED.prompt)
    commands = desk.checks.answered(RUN, 0, ASKED, replace(echo, provider="a"), 0.0)
    [ask] = asks(commands)
    honest = ask.to[0]
    [third] = asks(desk.checks.second(0, replace(ANSWER, provider=honest), 0.0))
    [accepted] = accepts(desk.checks.second(0, replace(echo, provider=third.to[0]), 0.0))
    assert accepted.answer.provider == honest
    assert not desk.reputation.is_out(honest, 0.0)
    assert not any(desk.reputation.was_checked(name) for name in "abc")


def proven(desk: Desk, *names: str) -> None:
    for name in names:
        for _ in range(PROVEN):
            desk.reputation.note(name, Seen.PASSED, 0.0)


def lost_by(desk: Desk, liar: str) -> tuple[list[int], list[CheckCommand]]:
    """What follows when somebody who was believed loses a comparison, and the slots that it had answered before."""
    before = [desk.answers(liar)[0] for _ in range(5)]
    while not desk.checks._allowance.affords(Purpose.SAMPLE):
        desk.checks._allowance.answered(RUN)
    slot, commands = desk.answers(liar)
    [ask] = asks(commands)
    other = replace(ANSWER, provider=ask.to[0], text="not so")
    [third] = asks(desk.checks.second(slot, other, 0.0))
    return before, desk.checks.second(slot, replace(other, provider=third.to[0]), 0.0)


def test_of_somebody_who_loses_a_comparison_the_latest_answers_are_looked_at_once_more() -> None:
    desk = Desk("a", "b", "c", "d", jobs=1_000)
    proven(desk, "a", "b", "c", "d")
    before, commands = lost_by(desk, "a")
    reopened = [command.slot for command in commands if isinstance(command, Reopen)]
    assert reopened == before[-1:-3:-1] == [ask.slot for ask in asks(commands)]
    ask = asks(commands)[0]
    assert commands.index(Reopen(ask.slot)) < commands.index(ask)
    # One that stands is filled again, and the next one is looked at; a second lie ends it.
    stands = desk.checks.second(ask.slot, replace(ANSWER, provider=ask.to[0]), 0.0)
    assert [accepted.slot for accepted in accepts(stands)] == [before[-1]]
    assert [command.slot for command in stands if isinstance(command, Reopen)] == [before[-3]]
    caught = desk.checks.note("a", Seen.FORGED, 0.0, "")
    assert [again.slots for again in caught if isinstance(again, Again)] == [tuple(before[:2])]


def test_what_was_told_already_is_not_looked_at_again() -> None:
    desk = Desk("a", "b", "c", "d", jobs=0)
    desk.checks.added(RUN, 1_000, final=True)
    proven(desk, "a", "b", "c", "d")
    _, commands = lost_by(desk, "a")
    assert not any(isinstance(command, Reopen) for command in commands)
    assert not any(isinstance(again, Again) for again in desk.checks.note("a", Seen.FORGED, 0.0, ""))


def test_a_caught_liar_loses_all_that_nobody_confirmed_however_often_it_passed_since() -> None:
    desk = Desk("a", "b", "c")
    before = [desk.answers("a")[0] for _ in range(3)][1:]
    proven(desk, "a")
    desk.checks.note("a", Seen.FORGED, 0.0, "")
    caught = desk.checks.note("a", Seen.FORGED, 0.0, "")
    assert [again.slots for again in caught if isinstance(again, Again)] == [tuple(before)]


def test_who_lost_by_the_opinion_of_two_that_lie_is_back_when_one_of_them_is_caught() -> None:
    desk = Desk("a", "b", "c", "d")
    slot, commands = desk.answers("a")
    [ask] = asks(commands)
    lie = replace(ANSWER, text="not so")
    [third] = asks(desk.checks.second(slot, replace(lie, provider=ask.to[0]), 0.0))
    desk.checks.second(slot, replace(lie, provider=third.to[0]), 0.0)
    assert desk.reputation.is_out("a", 0.0)
    assert Changed("a") in desk.checks.note(third.to[0], Seen.FORGED, 0.0, "")
    assert not desk.reputation.is_out("a", 0.0)
    assert "lost" not in " ".join(why(desk.reputation.get("a"), 0.0))
    assert asks(desk.answers("a")[1]), "its next answer is checked, whatever it costs"
    # The other one's lie takes nothing away twice.
    desk.checks.note("a", Seen.LOST, 0.0, "")
    desk.checks.note(ask.to[0], Seen.FORGED, 0.0, "")
    assert desk.reputation.is_out("a", 0.0)


class Killable(Model):
    """Keeps what a run's journal would hold."""

    rows: dict[int, Answer]
    looked_at = 0

    def do(self, commands: list[Any]) -> None:
        for command in commands:
            match command:
                case Fill(_, place, answer):
                    self.rows[place] = answer
                case Unfill(_, place, bad=False):
                    self.looked_at += 1
                    assert self.rows[place] == self.places[place], "who takes the run up now pays it no second time"
                case Unfill(_, place):
                    out = self.rows.pop(place).provider
                    assert self.reputation.is_out(out, WALL + self.now), "and takes up nothing of a liar's"
            super().do([command])


@pytest.mark.parametrize(("kind", "jobs"), [("sleeper", 600), ("selective", 1_000)])
def test_a_place_that_is_looked_at_once_more_stays_in_the_journal_until_its_answer_is_known_to_be_bad(
    kind: str, jobs: int
) -> None:
    lie = kinds(text=False)[kind]
    members = [Member(f"honest-{n}") for n in range(10)] + [Member("liar", lie)]
    model = Killable(members, seed=3)
    model.rows = {}
    model.run(jobs)
    assert model.looked_at
    assert model.rows == dict(enumerate(model.places))


@pytest.mark.parametrize("passed", [PROVEN, 40, 1_000])
def test_whoever_passed_ever_so_often_is_out_with_the_second_failure_in_a_row_but_not_with_one_now_and_then(
    passed: int,
) -> None:
    sleeper, careless = Reputation(), Reputation()
    for reputation in (sleeper, careless):
        for _ in range(passed):
            reputation.note("p", Seen.PASSED, 0.0)
    assert not sleeper.note("p", Seen.LOST, 0.0) and sleeper.note("p", Seen.LOST, 0.0)
    for _ in range(10):
        assert not careless.note("p", Seen.LOST, 0.0)
        for _ in range(FORGIVEN):
            careless.note("p", Seen.PASSED, 0.0)
    assert not careless.is_out("p", 0.0) and careless.trust("p") > 0.9


def test_hardly_anybody_who_lies_once_in_five_is_forgiven() -> None:
    rng, checks = random.Random(1), []
    for _ in range(1_000):
        reputation, count = Reputation(), 0
        for _ in range(PROVEN):
            reputation.note("p", Seen.PASSED, 0.0)
        while not reputation.is_out("p", 0.0):
            count += 1
            reputation.note("p", Seen.LOST if rng.random() < 0.2 else Seen.PASSED, 0.0)
        checks.append(count)
    checks.sort()
    # The second lie comes with the tenth check on average.
    assert checks[500] <= 10 and checks[950] <= 25


def held(*providers: str) -> Desk:
    """Their answers are read by our own model first."""
    desk = Desk(*providers)
    desk.checks.examination.holds = frozenset({MODEL.sha256})
    return desk


def test_what_our_own_model_disowns_is_asked_again_and_with_it_all_that_its_provider_gave() -> None:
    desk = held("a", "b")
    desk.checks.examination.holds = frozenset()
    before = desk.answers("a")[0]
    assert accepts(desk.checks.no_second(before, 0.0)) or accepts(desk.checks.no_second(before, 0.0))
    desk.checks.examination.holds = frozenset({MODEL.sha256})
    slot, commands = desk.answers("a")
    assert [one.slot for one in commands if isinstance(one, Rescore)] == [slot]
    found = desk.checks.scored(slot, Verdict.FAILED, 0.0)
    again = {one.slots: one.without for one in found if isinstance(one, Again)}
    assert again == {(slot,): "a", (before,): "a"} and not accepts(found)
    assert [reason.seen for reason in desk.reputation.get("a").reasons] == [Seen.FORGED]
    assert desk.reputation.is_out("a", 0.0) and Changed("a") in found
    assert not desk.checks.scored(slot, Verdict.FAILED, 0.0), "it is said once"


def test_what_our_own_model_would_have_written_stands_and_says_so() -> None:
    desk = held("a", "b")
    slot, _ = desk.answers("a")
    [accepted] = accepts(desk.checks.scored(slot, Verdict.PASSED, 0.0))
    assert (accepted.slot, accepted.how) == (slot, ("plausible", "rescored"))
    assert desk.reputation.was_checked("a") and not desk.reputation.is_suspect("a")


def test_what_our_own_model_cannot_tell_somebody_else_is_asked() -> None:
    desk = held("a", "b")
    slot, _ = desk.answers("a")
    [ask] = asks(desk.checks.scored(slot, Verdict.UNCLEAR, 0.0))
    assert (ask.slot, ask.to) == (slot, ("b",)) and not desk.reputation.was_checked("a")
    # It is out for comparison: what our model says now comes too late.
    assert not desk.checks.scored(slot, Verdict.FAILED, 0.0)


def test_who_left_a_question_that_was_drawn_has_its_next_answer_read_however_well_it_is_known() -> None:
    desk = Desk("a", "b")
    assert desk.checks.beside([Question(RUN, 99, ASKED, "a")], 5)
    desk.checks.moved_on(99)
    for _ in range(WELL_KNOWN):
        desk.checks.note("a", Seen.PASSED, 0.0, "")
    desk.checks.examination.holds = frozenset({MODEL.sha256})
    read = [any(isinstance(one, Rescore) for one in desk.answers("a")[1]) for _ in range(20)]
    assert read[0] and sum(read) < 5
