"""What one more opinion on an answer leads to, when something else was learnt meanwhile."""

import random
from dataclasses import replace

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.commands import Accept, Again, Ask, CheckCommand, Reopen
from pylon.swarm.checks.reputation import ALONE_ENOUGH, PROVEN, Reputation, Seen
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import ProviderUp
from pylon.swarm.providers.listing import Listing
from pylon.swarm.settings import CheckSettings

MODEL = OfferedModel("m", "ab" * 32)
ANSWER = Answer("so it is", "", "m", MODEL.sha256, Usage(4, 3), Finish.STOP, 0, 90, 100, 1, "request", "result")
ASKED = JobSpec("how is it?")
RUN, LIE = 1, "not so"


class Desk:
    """Checks of one run, and everybody who may be asked."""

    def __init__(self, providers: str, *, final: bool = False) -> None:
        self.reputation = Reputation()
        self.checks = Checks(CheckSettings(), self.reputation, random.Random(1))
        for provider in providers:
            self.checks.observe(ProviderUp(Listing(provider, models=(MODEL,))))
        self.checks.added(RUN, 1_000, final=final)
        self.slots = 0

    def answers(
        self, provider: str, *, asked: JobSpec = ASKED, text: str = ANSWER.text
    ) -> tuple[int, list[CheckCommand]]:
        slot, self.slots = self.slots, self.slots + 1
        return slot, self.checks.answered(RUN, slot, asked, replace(ANSWER, provider=provider, text=text), 0.0)

    def says(self, slot: int, provider: str, text: str = ANSWER.text) -> list[CheckCommand]:
        return self.checks.second(slot, replace(ANSWER, provider=provider, text=text), 0.0)

    def proven(self, providers: str) -> None:
        for provider in providers:
            for _ in range(PROVEN):
                self.reputation.note(provider, Seen.PASSED, 0.0)

    def caught(self, provider: str) -> list[CheckCommand]:
        found: list[CheckCommand] = []
        while not self.reputation.is_out(provider, 0.0):
            found += self.checks.note(provider, Seen.FORGED, 0.0, "")
        return found


def only[T](kind: type[T], commands: list[CheckCommand]) -> list[T]:
    return [command for command in commands if isinstance(command, kind)]


def test_what_somebody_said_who_was_caught_meanwhile_decides_nothing_together_with_a_third() -> None:
    desk = Desk("abcde")
    slot, commands = desk.answers("a")
    [ask] = only(Ask, commands)
    liar = ask.to[0]
    [ask] = only(Ask, desk.says(slot, liar, LIE))
    third = ask.to[0]
    desk.caught(liar)
    found = desk.says(slot, third, LIE)
    # Two would have outvoted the first. Of the two that are left it is one against one: somebody else is asked.
    [ask] = only(Ask, found)
    assert not only(Accept, found) and not {"a", liar, third} & set(ask.to)
    assert not desk.reputation.is_out("a", 0.0)
    [accepted] = only(Accept, desk.says(slot, ask.to[0]))
    assert accepted.answer.provider == "a" and desk.reputation.is_out(third, 0.0)


def test_where_the_one_examined_was_caught_meanwhile_the_other_s_answer_stands() -> None:
    desk = Desk("abc")
    slot, commands = desk.answers("a", text=LIE)
    [ask] = only(Ask, commands)
    desk.caught("a")
    found = desk.says(slot, ask.to[0])
    [accepted] = only(Accept, found)
    assert (accepted.slot, accepted.answer.provider, accepted.how) == (slot, ask.to[0], ("plausible",))
    assert not only(Ask, found)


def test_two_that_differ_are_decided_by_a_third_and_three_that_all_differ_by_who_is_known_best() -> None:
    desk = Desk("abcd")
    desk.proven("b")
    slot, commands = desk.answers("a", text="one")
    assert only(Ask, commands)[0].to[0] == "b"
    [ask] = only(Ask, desk.says(slot, "b", "two"))
    found = desk.says(slot, ask.to[0], "three")
    assert not only(Ask, found)
    assert [accepted.answer.provider for accepted in only(Accept, found)] == ["b"]


def test_an_answer_that_is_hardly_believable_proves_nobody_who_is_alone() -> None:
    desk, empty = Desk("a"), JobSpec("how is it?")
    for _ in range(2 * ALONE_ENOUGH):
        assert only(Accept, desk.answers("a", asked=empty, text=" ")[1])
    assert not desk.reputation.is_proven("a")
    for _ in range(ALONE_ENOUGH):
        desk.answers("a")
    assert desk.reputation.is_proven("a")


def test_latest_answers_that_nobody_can_be_asked_about_stay_where_they_are_and_are_lost_when_it_lies() -> None:
    desk = Desk("abcd")
    desk.proven("abcd")
    slots, last = [], None
    while last is None:
        slot, commands = desk.answers("a")
        if asks := only(Ask, commands):
            last = (slot, asks[0])
        else:
            slots.append(slot)
    slot, ask = last
    [third] = only(Ask, desk.says(slot, ask.to[0], LIE))
    desk.checks._allowance.left = -1_000.0
    found = desk.says(slot, third.to[0], LIE)
    assert desk.reputation.is_suspect("a") and only(Reopen, found) == [] == only(Ask, found)
    again = [one for command in only(Again, desk.caught("a")) for one in command.slots]
    assert sorted(again) == slots


def test_a_majority_is_counted_when_all_are_there_and_holds_the_rest_against_those_who_said_otherwise() -> None:
    desk, asked = Desk("abcde"), JobSpec("how is it?", votes=3)
    slot, commands = desk.answers("a", asked=asked, text=LIE)
    asks = only(Ask, commands)
    assert len(asks) == 1, "two may yet agree"
    found = desk.says(slot, asks[0].to[0])
    [ask] = only(Ask, found)
    assert not only(Accept, found)
    [accepted] = only(Accept, desk.says(slot, ask.to[0]))
    assert accepted.answer.text == ANSWER.text and "majority" in accepted.how
    assert desk.reputation.is_out("a", 0.0)
    for honest in (asks[0].to[0], ask.to[0]):
        record = desk.reputation.get(honest)
        assert record is not None and (record.passed, record.bad) == (1.0, 0.0)


def test_of_a_suspect_two_answers_are_examined_at_once_and_all_of_them_where_none_can_be_asked_again() -> None:
    for final, examined in ((False, [True, True, False, False]), (True, [True] * 4)):
        desk = Desk("abcdefgh", final=final)
        desk.proven("bcdefgh")
        desk.reputation.note("a", Seen.DOUBTFUL, 0.0)
        assert [bool(only(Ask, desk.answers("a")[1])) for _ in range(4)] == examined


def test_a_vote_asks_whoever_is_there_though_nobody_names_the_same_weights() -> None:
    desk = Desk("a")
    desk.checks.observe(ProviderUp(Listing("b", models=(OfferedModel("n", "cd" * 32),))))
    [ask] = only(Ask, desk.answers("a", asked=JobSpec("how is it?", votes=3))[1])
    assert ask.to == ("b",)
    assert not only(Ask, desk.answers("a")[1]), "free text is compared between the same weights"
