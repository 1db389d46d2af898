from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import ModelError, PromptError
from pylon.inference.engine import (
    EngineSpec,
    Event,
    Finished,
    GenerationRequest,
    Message,
    Progress,
    Sampling,
    ScoreRequest,
)
from pylon.inference.instant import MODEL_ID, InstantEngine
from tests.manual_clock import ManualClock


def engine(clock: ManualClock | None = None, **options: object) -> InstantEngine:
    return InstantEngine(EngineSpec("instant", MODEL_ID, slots=2, options=options), clock or ManualClock())


def answers(instant: InstantEngine, *requests: GenerationRequest) -> list[str]:
    for request in requests:
        instant.add(request)
    done = {}
    while instant.busy:
        done |= {event.id: event.generation for event in instant.step() if isinstance(event, Finished)}
    return [done[request.id].text for request in requests]


def test_the_stand_in_names_itself_and_takes_no_other_name() -> None:
    assert engine().load().id == "stand-in-instant"
    with pytest.raises(ModelError):
        InstantEngine(EngineSpec("instant", "needle-1"))


def test_answers_come_from_the_table_or_by_the_rule(ask) -> None:
    instant = engine(table={"2+2": "4"})
    known, other, same, different = answers(
        instant, ask("2+2", key="1"), ask("x y", key="2"), ask("x y", key="3"), ask("x z", key="4")
    )
    assert known == "4"
    assert other == same != different
    assert other.startswith("stand-in answer")


def test_max_tokens_and_stop_strings_hold(ask) -> None:
    instant = engine(table={"q": "one two three four"})
    instant.add(ask("q", key="1", max_tokens=2))
    instant.add(ask("q", key="2", stop=("three",)))
    first, second = [event.generation for event in instant.step() if isinstance(event, Finished)]
    assert (first.text, first.finish, first.completion_tokens) == ("one two", "length", 2)
    assert (second.text, second.finish) == ("one two ", "stop")


def test_a_delay_holds_a_slot_for_its_time(ask) -> None:
    clock = ManualClock()
    instant = engine(clock, delay_s=1.0)
    for number in range(3):
        instant.add(ask("q", key=str(number)))
    assert instant.step() == []
    clock.advance(1.0)
    assert [event.id for event in instant.step() if isinstance(event, Finished)] == ["0", "1"]
    assert instant.step() == []
    clock.advance(1.0)
    assert [event.generation.run_ms for event in instant.step() if isinstance(event, Finished)] == [1000]


def test_a_cancelled_request_gives_its_slot_to_the_next(ask) -> None:
    clock = ManualClock()
    instant = engine(clock, delay_s=1.0)
    for number in range(3):
        instant.add(ask("q", key=str(number)))
    instant.step()
    instant.cancel("0")
    instant.step()
    clock.advance(1.0)
    assert [event.id for event in instant.step() if isinstance(event, Finished)] == ["1", "2"]
    assert not instant.busy


def test_a_prompt_over_the_context_is_refused(ask) -> None:
    with pytest.raises(PromptError):
        engine().add(ask("word " * 40_000))


def streamed(clock: ManualClock, instant: InstantEngine, request: GenerationRequest) -> list[tuple[float, Event]]:
    """What is told of it, and when, in steps of an eighth of a second."""
    instant.add(replace(request, stream=True))
    told: list[tuple[float, Event]] = []
    while instant.busy:
        told += [(clock.monotonic(), event) for event in instant.step()]
        clock.advance(0.125)
    return told


def test_a_streamed_answer_comes_word_by_word_within_its_time(ask) -> None:
    clock = ManualClock()
    began = clock.monotonic()
    told = streamed(clock, engine(clock, table={"q": "one two three four"}, delay_s=2.0), ask("q"))
    pieces = [(at - began, event) for at, event in told if isinstance(event, Progress)]
    assert [(at, event.text, event.completion_tokens) for at, event in pieces] == [
        (0.5, "one", 1),
        (1.0, "one two", 2),
        (1.5, "one two three", 3),
        (2.0, "one two three four", 4),
    ]
    assert all(event.prompt_tokens == 1 for _, event in pieces)
    at, last = told[-1]
    assert isinstance(last, Finished) and at - began == 2.0 and last.generation.run_ms == 2000


def test_what_is_not_streamed_is_told_of_when_it_is_whole(ask) -> None:
    clock = ManualClock()
    instant = engine(clock, delay_s=1.0)
    instant.add(ask("q"))
    for _ in range(8):
        assert instant.step() == []
        clock.advance(0.125)
    assert [type(event) for event in instant.step()] == [Progress, Finished]


@settings(deadline=None)  # it sleeps a few milliseconds a step
@given(
    answer=st.text(alphabet="ab  \n", max_size=30),
    stop=st.sampled_from([(), ("b a",), ("a",), (" ",)]),
    most=st.integers(1, 12),
    step_s=st.sampled_from([0.125, 0.7, 5.0]),
)
def test_a_streamed_answer_only_grows_and_ends_as_it_would_whole(answer, stop, most, step_s) -> None:
    request = GenerationRequest("1", (Message("user", "q"),), Sampling(most, stop=stop), MODEL_ID)
    clock = ManualClock()
    instant = engine(clock, table={"q": answer}, delay_s=1.0)
    instant.add(replace(request, stream=True))
    told: list[Event] = []
    while instant.busy:
        clock.advance(step_s)
        told += instant.step()
    *pieces, last = told
    assert isinstance(last, Finished)
    assert [last.generation.text] == answers(engine(table={"q": answer}), request)
    grown = [piece for piece in pieces if isinstance(piece, Progress)]
    assert len(grown) == len(pieces) and grown[-1].text == last.generation.text
    for earlier, later in pairwise(grown):
        assert later.text.startswith(earlier.text) and later.completion_tokens >= earlier.completion_tokens


@pytest.mark.parametrize("known", ["", "four legs"])
def test_an_answer_of_the_table_is_its_own_first_choice_an_empty_one_too(ask, known: str) -> None:
    instant = engine(table={"q": known})
    assert set(instant.score(ScoreRequest("1", ask("q").messages, known)).ranks) == {0}
