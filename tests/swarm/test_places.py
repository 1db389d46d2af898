"""Places of a run: what fills them, what takes it out again, and how often they are asked anew."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.checks.commands import Again, Reopen
from pylon.swarm.circle import Circle
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.dispatch.messages import Failure, SlotJob
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.listing import Need
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.pieces import Pieces
from pylon.swarm.runs.places import MOST_AGAIN, Fail, Fill, Piece, Unfill
from pylon.swarm.settings import DispatchSettings
from tests.swarm.test_checks import ANSWER

ASKED = JobSpec("a question")


def piece(**changes: object) -> Piece:
    return replace(Piece(1, 7, ASKED, attempts=2), **changes)  # type: ignore[arg-type]


def job_of(_: JobSpec, slot: int) -> SlotJob:
    return SlotJob(slot, Need(), 60.0, 60.0)


def given_by(provider: str) -> Answer:
    return replace(ANSWER, provider=provider)


def test_an_answer_says_how_often_its_place_was_sent_and_each_thing_that_it_passed_once() -> None:
    one = piece()
    filled = one.fill(given_by("a"), ("signature", "compared"))
    assert isinstance(filled, Fill) and (filled.run, filled.place) == (1, 7)
    assert (filled.answer.attempts, filled.answer.verified) == (2, ("signature", "compared"))
    assert one.filled


def test_what_stands_or_is_looked_at_once_more_is_taken_out_and_an_empty_place_is_not() -> None:
    one = piece()
    assert one.unfill() is None
    one.fill(given_by("a"), ())
    assert one.unfill() == Unfill(1, 7)
    assert one.reopen() == Unfill(1, 7, bad=False) and not one.filled
    assert one.unfill() == Unfill(1, 7)
    one.fill(given_by("b"), ())
    assert not one.reopened


@given(st.lists(st.text(min_size=1, max_size=3), min_size=MOST_AGAIN, max_size=MOST_AGAIN), st.integers(0, 5))
def test_a_place_is_asked_of_nobody_twice_and_so_often_and_no_more(liars, attempts) -> None:
    at = piece(attempts=attempts, sent=True, opinion=3, filled=True)
    for liar in liars:
        assert not at.is_last
        at = at.again(liar)
        assert (at.run, at.place, at.spec, at.attempts) == (1, 7, ASKED, attempts)
        assert not (at.filled or at.reopened or at.sent) and at.opinion is None
    assert at.is_last and at.without == set(liars)
    assert at.fail(Failure.EXHAUSTED, None, 3) == Fail(1, 7, Failure.EXHAUSTED, None, attempts + 3)


def test_a_slot_is_known_by_its_place_as_long_as_its_run_is_open() -> None:
    pieces = Pieces()
    first, second = (
        pieces.begin(lambda spec, slot: SlotJob(slot, Need(), 1.0, 2.0), final=final) for final in (True, False)
    )
    job = pieces.add(Piece(first, 7, ASKED, without=frozenset({"a liar"})), ("one",))
    opinion = pieces.add(Piece(first, 7, ASKED, opinion_of=job.slot))
    other = pieces.add(Piece(second, 0, ASKED))
    assert (job.run, job.to, job.without, other.run) == (first, ("one",), {"a liar"}, second)
    assert (pieces.place_of(job.slot), pieces.place_of(opinion.slot), pieces.run_of(opinion.slot)) == (7, None, first)
    assert pieces.is_final(first) and not pieces.is_final(second)
    pieces.come(first, 9)
    pieces.come(second, 2)
    pieces.come(first, 5)
    assert pieces.coming == 7
    assert list(pieces.of_run(first)) == [job.slot, opinion.slot]
    pieces.end(first)
    assert (pieces.run_of(job.slot), pieces.place_of(job.slot), pieces.run_of(other.slot)) == (None, None, second)
    assert pieces.coming == 2


def test_whose_answers_are_no_good_again_and_again_leaves_its_place_empty_in_the_end() -> None:
    coordinator = Coordinator(Dispatcher(DispatchSettings(), random.Random(1)), None, Circle())
    run = coordinator.begin(job_of, 1)
    coordinator.ask(run, [(0, ASKED)], 0.0, 0.0)
    for slot in range(MOST_AGAIN):
        coordinator._out = []
        coordinator._apply([Again((slot,), f"liar {slot}")], 0.0)
        assert coordinator._out == [] and coordinator.pieces.by_slot[slot + 1].place == 0
    # Its last answer was believed, and is looked at once more.
    coordinator.pieces.by_slot[MOST_AGAIN].fill(ANSWER, ())
    coordinator._apply([Reopen(MOST_AGAIN), Again((MOST_AGAIN,), "liar")], 0.0)
    assert coordinator._out == [Unfill(run, 0, bad=False), Unfill(run, 0), Fail(run, 0, Failure.EXHAUSTED, None, 0)]
