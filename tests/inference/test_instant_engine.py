import pytest

from pylon.errors import ModelError, PromptError
from pylon.inference.engine import EngineSpec, Finished, GenerationRequest
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
