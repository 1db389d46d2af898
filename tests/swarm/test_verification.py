"""What can be told of answers from the values alone."""

from dataclasses import replace

import pytest

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.result import Finish
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.money.usage import quote_bound
from pylon.swarm.compose import bounds_of, job_of
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.verification import Fault, fault_of, same, value_of

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
    assert fault_of(tree, answer(DEEP)) is Fault.FORMAT
    assert fault_of(tree, answer("[[], [[]]]")) is None


def test_an_answer_that_says_it_was_cut_off_is_none() -> None:
    assert fault_of(VOTE, replace(answer("a whole one"), finish=Finish.CANCELLED)) is Fault.CUT_OFF


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


def test_a_bid_covers_the_system_prompt_too() -> None:
    spec = JobSpec("hi", system="x" * 50_000, max_tokens=16)
    price, settings = Price(Msat(0), Msat(1_000), Msat(1_000)), SwarmSettings(bid=Msat(1_000))
    need = job_of(0, spec, settings, deadline=1.0).need
    assert price.quote(need.prompt_tokens, need.max_tokens) >= quote_bound(price, bounds_of(spec)) > 1_000
