import pytest

from pylon.inference.batching import answer
from pylon.inference.batching.reuse import AnswerStore, answer_key
from pylon.inference.engine import Event, Finished, Generation, Progress, Sampling
from pylon.inference.mlx.engine import MlxEngine

GREEDY = Sampling(max_tokens=6)


@pytest.fixture
def mlx(babble) -> MlxEngine:
    engine = MlxEngine(babble)
    engine.load()
    return engine


def finish(mlx: MlxEngine) -> tuple[dict[str, Generation], list[Event]]:
    events: list[Event] = []
    while mlx.busy:
        events += mlx.step()
    return {event.id: event.generation for event in events if isinstance(event, Finished)}, events


def test_the_same_prompt_is_computed_once_for_one_customer(mlx: MlxEngine, ask) -> None:
    mlx.add(ask("Say a word.", key="1", customer="a"))
    first, _ = finish(mlx)
    computed = mlx.tokens
    mlx.add(ask("Say a word.", key="2", customer="a"))
    second, events = finish(mlx)
    assert second["2"].text == first["1"].text
    assert second["2"].prompt_tokens == first["1"].prompt_tokens
    assert second["2"].run_ms == 0
    assert len(events) == 1
    assert mlx.tokens == computed


def test_an_answer_is_never_given_to_another_customer_without_computing_it(mlx: MlxEngine, ask) -> None:
    for customer in ("a", "b"):
        before = mlx.tokens.completion
        mlx.add(ask("Say a word.", customer=customer))
        finish(mlx)
        assert mlx.tokens.completion > before


def test_equal_prompts_at_once_are_computed_once_and_all_answered(mlx: MlxEngine, ask) -> None:
    for key in "123":
        mlx.add(ask("Say a word.", key=key, customer="a", stream=key != "1"))
    done, events = finish(mlx)
    assert set(done) == {"1", "2", "3"}
    assert len({generation.text for generation in done.values()}) == 1
    assert {event.id for event in events if isinstance(event, Progress)} == {"2", "3"}
    assert mlx.tokens.prompt == done["1"].prompt_tokens


@pytest.mark.parametrize(("streams", "most"), [(False, 0), (True, 1)])
def test_stop_strings_are_looked_for_in_what_is_shown_once_a_token_and_for_streams_alone(
    mlx: MlxEngine, ask, monkeypatch: pytest.MonkeyPatch, streams: bool, most: int
) -> None:
    looked = []
    monkeypatch.setattr(answer, "settled", lambda text, stops: looked.append(stops) or len(text))
    for key in "123":
        mlx.add(ask("Say a word.", key=key, customer="a", stop=("x" * 256,), stream=streams))
    done, _ = finish(mlx)
    assert len(looked) <= most * done["1"].completion_tokens


@pytest.mark.parametrize("steps", [0, 3])
def test_when_the_first_of_equal_prompts_is_cancelled_the_next_takes_its_place(
    mlx: MlxEngine, ask, steps: int
) -> None:
    for key in "123":
        mlx.add(ask("Say a word.", key=key, customer="a"))
    for _ in range(steps):
        mlx.step()
    mlx.cancel("1")
    mlx.cancel("3")
    done, _ = finish(mlx)
    assert set(done) == {"2"}


def test_drawn_answers_are_drawn_anew() -> None:
    assert answer_key("a", [1, 2], Sampling(max_tokens=6, temperature=0.5)) is None


@pytest.mark.parametrize("other", [{"max_tokens": 7}, {"stop": ("x",)}, {"frequency_penalty": 1.0}, {"schema": "{}"}])
def test_what_shapes_an_answer_tells_requests_apart(other) -> None:
    settings = {"max_tokens": 6} | other
    assert answer_key("a", [1, 2], GREEDY) != answer_key("a", [1, 2], Sampling(**settings))
    assert answer_key("a", [1, 2], GREEDY) != answer_key("a", [1, 3], GREEDY)
    assert answer_key("a", [1, 2], GREEDY) != answer_key("b", [1, 2], GREEDY)


def test_a_seed_makes_no_difference_to_a_greedy_answer() -> None:
    assert answer_key("a", [1], GREEDY) == answer_key("a", [1], Sampling(max_tokens=6, seed=7))


def test_an_answer_is_greedy_by_its_temperature_or_its_top_p() -> None:
    assert answer_key("a", [1], GREEDY) == answer_key("a", [1], Sampling(max_tokens=6, temperature=0.9, top_p=0.0))
    assert answer_key("a", [1], Sampling(max_tokens=6, temperature=0.9, top_p=0.01)) is None


def test_answers_stay_within_their_number_and_their_characters() -> None:
    store = AnswerStore(most=3, most_chars=100)
    keys = [answer_key("a", [n], GREEDY) for n in range(5)]
    for key in keys[:4]:
        store.put(key, Generation("x" * 10, "stop", 1, 1, 5))
    assert [store.find(key) is not None for key in keys[:4]] == [False, True, True, True]
    store.put(keys[1], Generation("x" * 10, "stop", 1, 1, 5))
    store.put(keys[4], Generation("x" * 95, "stop", 1, 1, 5))
    assert len(store) == 1
