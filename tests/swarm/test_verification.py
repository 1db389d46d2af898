"""What can be told of answers from the values alone."""

import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.answer import Address
from pylon.jobs.result import Finish, JobResult, ModelUsed
from pylon.money.accounts.usage import TEMPLATE_TOKENS, Usage, quote_bound
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.swarm.checks.verification import (
    MOST_VALUES,
    Doubt,
    Fault,
    Score,
    Verdict,
    doubts_of,
    fault_of,
    judge,
    same,
    value_of,
)
from pylon.swarm.circle import Circle
from pylon.swarm.compose import bounds_of, job_of
from pylon.swarm.flights import Flight
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.wire.meaning import answer_of

VOTE = JobSpec("which?", votes=3)
DEEP = "[" * 1_000 + "]" * 1_000


def answer(text: str) -> Answer:
    return Answer(text, "a" * 64, "m", "b" * 64, None, None, 0, 0, 50, 1, "1" * 64, "2" * 64)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"a": 1, "b": "X"}', '{"b":"x","a":1.0}', True),
        ("[1, 2]", "[2, 1]", False),
        ("true", "1", False),
        ("0", "false", False),
        ("Yes ", "yes", True),
        (DEEP, DEEP, True),
        (DEEP, "[1]", False),
        ("9007199254740993", "9007199254740992", False),
    ],
    ids=["order and case", "lists", "true", "false", "words", "deep", "not as deep", "large"],
)
def test_structured_answers_are_compared_as_values(one: str, other: str, equal: bool) -> None:
    assert same(VOTE, answer(one), answer(other)) is equal


def test_a_value_can_be_counted() -> None:
    assert len({value_of(text) for text in ('{"a":1}', '{"a": 1}', DEEP, "word")}) == 3


def test_an_answer_that_is_deeper_than_a_schema_can_be_followed_has_the_wrong_format() -> None:
    tree = JobSpec("a tree", schema={"type": "array", "items": {"$ref": "#"}})
    # The interpreter's own limit, which Hypothesis raises for a while and other tests of the process may have too.
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    try:
        assert fault_of(tree, answer(DEEP)) is Fault.FORMAT
    finally:
        sys.setrecursionlimit(before)
    assert fault_of(tree, answer("[[], [[]]]")) is None


NUMBERS = JobSpec("count", schema={"type": "array", "items": {"type": "integer"}})


@pytest.mark.parametrize(
    ("asked", "numbers", "fault"),
    [
        (NUMBERS, MOST_VALUES - 1, None),
        (NUMBERS, MOST_VALUES, Fault.FORMAT),
        (replace(NUMBERS, max_tokens=50), 199, None),
        (replace(NUMBERS, max_tokens=50), 200, Fault.FORMAT),
    ],
)
def test_an_answer_of_more_values_than_its_tokens_can_hold_or_its_reader_can_check_has_the_wrong_format(
    asked: JobSpec, numbers: int, fault: Fault | None
) -> None:
    assert fault_of(asked, answer(f"[{','.join('7' * numbers)}]")) is fault


def test_an_answer_that_would_take_seconds_to_check_is_judged_at_once() -> None:
    text = f"[{','.join('7' * 200_000)}]"
    began = time.process_time()
    assert fault_of(NUMBERS, answer(text)) is Fault.FORMAT
    assert value_of(text) == value_of(text)
    assert time.process_time() - began < 1.0


def test_an_answer_that_says_it_was_cut_off_is_none() -> None:
    assert fault_of(VOTE, replace(answer("a whole one"), finish=Finish.CANCELLED)) is Fault.CUT_OFF


LIMITED = JobSpec("count", max_tokens=50)
STOPPED = replace(LIMITED, stop=("9",))
FREE_LENGTH = JobSpec("count")


@pytest.mark.parametrize(
    ("asked", "usage", "changes", "fault"),
    [
        (LIMITED, Usage(9, 50), {"text": "x" * 50}, None),
        (LIMITED, Usage(9, 51), {"text": "x" * 51}, Fault.LENGTH),
        (LIMITED, Usage(9, 20), {"text": "four"}, None),
        (LIMITED, Usage(9, 21), {"text": "four"}, Fault.USAGE),
        (LIMITED, None, {"text": "x" * 256 * 50}, None),
        (LIMITED, None, {"text": "x" * (256 * 50 + 1)}, Fault.LENGTH),
        # What a stop sequence or the room of an event took away was written all the same.
        (STOPPED, Usage(9, 21), {"text": "four"}, None),
        (LIMITED, Usage(9, 21), {"text": "four", "finish": Finish.SIZE}, None),
        (LIMITED, Usage(5 + TEMPLATE_TOKENS, 1), {}, None),
        (LIMITED, Usage(6 + TEMPLATE_TOKENS, 1), {}, Fault.USAGE),
        (FREE_LENGTH, Usage(9, 63), {"text": "x" * 63, "latency_ms": 1}, None),
        (FREE_LENGTH, Usage(9, 500), {"text": "x" * 500, "latency_ms": 10}, None),
        (FREE_LENGTH, Usage(9, 501), {"text": "x" * 501, "latency_ms": 10}, Fault.SPEED),
    ],
)
def test_who_counts_more_tokens_than_there_can_be_or_is_faster_than_any_machine_is_at_fault_and_at_the_bound_is_not(
    asked: JobSpec, usage: Usage | None, changes: dict[str, Any], fault: Fault | None
) -> None:
    assert fault_of(asked, replace(answer("1 2 3"), usage=usage, **changes)) is fault


OFFERED = (OfferedModel("m", "b" * 64),)
SAID = answer("text")


@pytest.mark.parametrize(
    ("asked", "model", "sha256", "offered", "fault"),
    [
        (None, "m", "b" * 64, OFFERED, False),
        ("m", "m", "b" * 64, OFFERED, False),
        ("sha256:" + "b" * 64, "m", "b" * 64, OFFERED, False),
        # It loaded another one meanwhile, and says so.
        (None, "n", "c" * 64, (*OFFERED, OfferedModel("n", "c" * 64)), False),
        ("m", "n", "c" * 64, (*OFFERED, OfferedModel("n", "c" * 64)), True),
        (None, "", "", OFFERED, True),
        (None, "m", "", OFFERED, True),
        ("sha256:" + "b" * 64, "", "", OFFERED, True),
        # An engine without files names no weights.
        (None, "m", "", (OfferedModel("m"),), False),
        ("m", "", "", (OfferedModel("m"),), True),
        # A plain provider names nothing at all.
        (None, "", "", (), False),
        ("m", "", "", (), False),
        ("m", "n", "", (), True),
    ],
)
def test_an_answer_is_by_a_model_that_was_asked_for_and_offered(asked, model, sha256, offered, fault) -> None:
    given = replace(SAID, model=model, sha256=sha256)
    assert fault_of(JobSpec("x", model=asked), given, offered) is (Fault.MODEL if fault else None)


def cut(text: str, tokens: int, longest: int = 0) -> Answer:
    return replace(
        answer(text), usage=Usage(4, tokens), finish=Finish.LENGTH, latency_ms=500, max_completion_tokens=longest
    )


@pytest.mark.parametrize(
    ("asked", "tokens", "longest", "doubted"),
    [
        (512, 12, 12, False),
        (512, 12, 0, True),
        # Shorter than it was said to be.
        (512, 11, 12, True),
        (12, 12, 100, False),
        (None, 12, 0, False),
    ],
)
def test_an_answer_that_is_cut_where_its_provider_had_said_is_not_doubted(asked, tokens, longest, doubted) -> None:
    found = doubts_of(JobSpec("x", max_tokens=asked), cut("one two three four", tokens, longest))
    assert found == ((Doubt.CUT,) if doubted else ())


def test_of_two_answers_of_one_model_the_shorter_is_no_lie_where_it_was_said_that_it_would_be() -> None:
    asked, whole = JobSpec("x", max_tokens=100), replace(answer("one two three"), usage=Usage(4, 3))
    for one, other in ((whole, cut("one two", 2, 2)), (cut("one two", 2, 2), whole)):
        assert same(asked, one, other) is None
    assert same(asked, whole, cut("one two", 2)) is False
    assert same(asked, whole, cut("one six", 2, 2)) is False
    assert same(asked, replace(whole, max_completion_tokens=3), replace(answer("one"), usage=Usage(4, 1))) is False
    assert same(asked, cut("one two", 2, 2), cut("one two", 2, 2)) is True


@pytest.mark.parametrize(
    ("offered", "longest"),
    [
        ((OfferedModel("m", "b" * 64, max_completion_tokens=12),), 12),
        # It said so only after it was asked, when its model was there.
        ((OfferedModel("m", "b" * 64), OfferedModel("m", "b" * 64, max_completion_tokens=12)), 12),
        ((OfferedModel("n", "b" * 64, max_completion_tokens=12),), 0),
        ((OfferedModel("m", "c" * 64, max_completion_tokens=12),), 0),
        ((), 0),
    ],
)
def test_an_answer_names_the_longest_that_its_provider_announced_with_its_model(offered, longest) -> None:
    result = JobResult(Address("1" * 64, "c" * 64, True), 6940, "text", ModelUsed("m", "b" * 64))
    flight = Flight("1" * 64, 5940, 0, 1, "a" * 64, 1, 0.0, result=result)
    assert answer_of(flight, 0.0, offered).max_completion_tokens == longest


def test_a_bid_covers_the_system_prompt_too() -> None:
    spec = JobSpec("hi", system="x" * 50_000, max_tokens=16)
    price, settings = Price(Msat(0), Msat(1_000), Msat(1_000)), SwarmSettings(bid=Msat(1_000))
    need = job_of(0, spec, settings, Circle(), deadline=1.0).need
    assert price.quote(need.prompt_tokens, need.max_tokens) >= quote_bound(price, bounds_of(spec)) > 1_000


PROMPT = "How many legs has a spider, and how many has a fly? Say both."
TEXT = "A spider has eight legs. " * 3


@pytest.mark.parametrize(
    ("text", "doubts"),
    [
        ("Eight, and six.", ()),
        (" \n", (Doubt.EMPTY,)),
        (f"  {PROMPT.upper()} ", (Doubt.ECHO,)),
        # Nearly the whole of it, or little more than it.
        (PROMPT[:-4], (Doubt.ECHO,)),
        (PROMPT + " Ok.", (Doubt.ECHO,)),
        # Who quotes it, or a word of it, says something else.
        (PROMPT[:20], ()),
        (PROMPT + " Eight, and six. One counts them by their pairs: four, and three.", ()),
        ("so " + "ab" * 12, (Doubt.REPETITION,)),
        ("so " + "ab" * 11, ()),
    ],
    ids=["proper", "empty", "echo", "cut echo", "longer echo", "a part", "quoted", "loop", "no loop"],
)
def test_a_text_that_says_nothing_is_doubted(text: str, doubts: tuple[Doubt, ...]) -> None:
    assert doubts_of(JobSpec(PROMPT), answer(text)) == doubts


@pytest.mark.parametrize(
    ("asked", "changes", "doubted"),
    [
        ({"max_tokens": 50}, {"finish": Finish.LENGTH, "usage": Usage(9, 49)}, True),
        ({"max_tokens": 50}, {"finish": Finish.LENGTH, "usage": Usage(9, 50)}, False),
        ({}, {"finish": Finish.LENGTH, "usage": Usage(9, 49)}, False),
        # Tokens that are hardly more than a byte long are not what was written.
        ({}, {"finish": Finish.STOP, "usage": Usage(9, 70)}, True),
        ({}, {"finish": Finish.STOP, "usage": Usage(9, 50)}, False),
        ({"stop": ("legs",)}, {"finish": Finish.STOP, "usage": Usage(9, 70)}, False),
        ({}, {"finish": Finish.STOP, "usage": None}, False),
    ],
)
def test_an_answer_that_is_shorter_than_what_is_charged_for_is_doubted(asked, changes, doubted) -> None:
    found = doubts_of(JobSpec(PROMPT, **asked), replace(answer(TEXT), **changes))
    assert found == ((Doubt.CUT,) if doubted else ())


def test_an_answer_that_took_longer_than_we_waited_is_doubted() -> None:
    given = replace(answer("Eight."), queue_ms=500, run_ms=600, latency_ms=100)
    assert doubts_of(JobSpec(PROMPT), given) == ()
    assert doubts_of(JobSpec(PROMPT), replace(given, run_ms=601)) == (Doubt.TIMING,)


FREE = JobSpec("tell a story", temperature=0.0)
LONG = "Once upon a time there was a spider with eight legs, "


@pytest.mark.parametrize(
    ("one", "other", "changes", "equal"),
    [
        (" It is so.\n", "It is so.", {}, True),
        ("It is so.", "It is not so.", {}, False),
        # What one of them was cut off at no limit of its own proves the other one short.
        ("It is so.", "It is so. Indeed", {}, False),
        ("It is so.", "It is so. Indeed", {"finish": Finish.SIZE}, None),
        ("It is so.", "So it is.", {"finish": Finish.SIZE}, False),
        # Rounding may lead two machines apart, after a good part that is the same.
        (LONG + "and it ran.", LONG + "but it sat.", {}, True),
        (LONG[:23] + "A" * 9, LONG[:23] + "B" * 9, {}, False),
        (LONG[:24] + "A" * 9, LONG[:24] + "B" * 9, {}, True),
        (LONG[:24] + "A" * 99, LONG[:24] + "B" * 99, {}, False),
        ("It is so.", "So it is.", {"sha256": "c" * 64}, None),
        ("It is so.", "It is so.", {"usage": Usage(8, 3)}, False),
        ("It is so.", "It is so.", {"usage": Usage(9, 4)}, True),
    ],
)
def test_free_text_is_compared_between_the_same_weights(one, other, changes, equal) -> None:
    first = replace(answer(one), usage=Usage(9, 3))
    second = replace(answer(other), **{"usage": Usage(9, 3), **changes})
    assert same(FREE, first, second) is same(FREE, second, first) is equal


def test_nothing_follows_from_free_text_that_was_drawn_by_chance_or_by_weights_that_are_not_named() -> None:
    assert same(replace(FREE, temperature=0.7), answer("a"), answer("b")) is None
    assert same(FREE, replace(answer("a"), sha256=""), replace(answer("b"), sha256="")) is None


@pytest.mark.parametrize(
    ("misses", "count", "end", "verdict"),
    [
        (0, 100, 0, Verdict.PASSED),
        (3, 100, 0, Verdict.PASSED),
        (4, 100, 0, Verdict.UNCLEAR),
        (10, 100, 0, Verdict.UNCLEAR),
        (11, 100, 0, Verdict.FAILED),
        # A short one may miss twice before it is held against it, unless it misses each time.
        (1, 4, 0, Verdict.PASSED),
        (2, 4, 0, Verdict.UNCLEAR),
        (3, 4, 0, Verdict.FAILED),
        (1, 1, 0, Verdict.FAILED),
        (0, 0, 0, Verdict.PASSED),
        (0, 0, 1, Verdict.UNCLEAR),
        # It stopped where its model would have gone on.
        (0, 100, 50, Verdict.PASSED),
        (0, 100, 51, Verdict.FAILED),
    ],
)
def test_ranks_tell_how_likely_its_model_wrote_an_answer(misses, count, end, verdict) -> None:
    ranks = (1,) * misses + (0,) * (count - misses)
    assert judge(Score(ranks, end), greedy=True, finish=Finish.STOP) is verdict
    # One that was drawn is among the likely ones.
    drawn = tuple(101 if rank else 100 for rank in ranks)
    assert judge(Score(drawn, end), greedy=False, finish=Finish.STOP) is verdict


def test_an_answer_that_did_not_stop_by_itself_need_not_end_where_its_model_would() -> None:
    assert judge(Score((0,) * 9, 10**6), greedy=True, finish=Finish.LENGTH) is Verdict.PASSED
