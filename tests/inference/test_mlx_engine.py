"""The MLX engine in this process, on the packaged model's layout with random weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pylon.errors import ModelError, PromptError
from pylon.inference.engine import (
    EngineSpec,
    Event,
    Failed,
    Finished,
    Generation,
    GenerationRequest,
    Message,
    Sampling,
)
from pylon.inference.mlx import MlxEngine
from pylon.inference.reuse import AnswerStore
from pylon.inference.weights import weights_sha256

CONTEXT = 2048

TEXT = (
    "The harbour was quiet in the morning. Boats lay in rows, and gulls walked between the nets. "
    "A man in a blue coat counted crates, wrote the number on a board, and went home before the rain came. "
)
INSTRUCTION = "Read the text and say in one line what it is about. " + TEXT


@pytest.fixture
def mlx(babble: EngineSpec) -> MlxEngine:
    engine = MlxEngine(babble)
    engine.load()
    # Every answer is computed: what is given again has a file of its own, test_reuse.py.
    engine._answers = AnswerStore(most=0)
    return engine


def run(mlx: MlxEngine, *requests: GenerationRequest) -> list[Generation]:
    for request in requests:
        mlx.add(request)
    done: dict[str, Generation] = {}
    while mlx.busy:
        for event in mlx.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Finished):
                done[event.id] = event.generation
    return [done[request.id] for request in requests]


def answered_tokens(mlx: MlxEngine, request: GenerationRequest) -> list[int]:
    """The tokens themselves: encoding the text again may cut it otherwise."""
    mlx.add(request)
    sequence = mlx._waiting[-1]
    run(mlx)
    return sequence.answer._detokenizer.tokens


def texts(generations: list[Generation]) -> list[str]:
    return [generation.text for generation in generations]


def test_the_model_is_named_by_its_weights(babble: EngineSpec) -> None:
    info = MlxEngine(babble).load()
    assert (info.id, info.engine, info.context, info.quantization) == ("babble", "mlx", CONTEXT, "float32")
    assert info.sha256 == weights_sha256(babble.model_dir)


def test_greedy_answers_in_a_batch_are_those_given_alone(mlx: MlxEngine, ask) -> None:
    prompts = [f"{number}. {TEXT[number:]}" * (1 + number % 3) for number in range(12)]
    together = run(mlx, *(ask(prompt, key=str(n), max_tokens=12) for n, prompt in enumerate(prompts)))
    alone = [run(mlx, ask(prompt, customer=f"c{n}", max_tokens=12))[0] for n, prompt in enumerate(prompts)]
    assert texts(together) == texts(alone)


def test_answers_with_a_shared_head_are_those_without(mlx: MlxEngine, ask) -> None:
    bodies = [f"Piece {number}: {TEXT[number * 7 :]}" for number in range(8)]
    shared = run(mlx, *(ask(INSTRUCTION + body, key=str(n), customer="a") for n, body in enumerate(bodies)))
    assert len(mlx._heads) == 1
    apart = run(mlx, *(ask(INSTRUCTION + body, key=str(n), customer=f"c{n}") for n, body in enumerate(bodies)))
    assert len(mlx._heads) == 1
    assert texts(shared) == texts(apart)


def test_a_head_that_grows_is_built_on_the_one_that_is_there(mlx: MlxEngine, ask) -> None:
    first = run(mlx, *(ask(INSTRUCTION + body, key=body, customer="a") for body in "xyz"))
    longer = INSTRUCTION + "x" + TEXT
    grown = run(mlx, *(ask(longer + body, key=body, customer="a") for body in "xyz"))
    assert len(mlx._heads) == 2
    apart = run(mlx, *(ask(longer + body, key=body, customer=body) for body in "xyz"))
    assert texts(grown) == texts(apart)
    again = run(mlx, *(ask(INSTRUCTION + body, key=body, customer="a") for body in "xyz"))
    assert texts(first) == texts(again), "the shorter head is as it was"
    assert texts(first) == texts(run(mlx, *(ask(INSTRUCTION + body, key=body, customer=body) for body in "xyz")))


def test_a_head_is_not_shared_between_customers(mlx: MlxEngine, ask) -> None:
    run(mlx, *(ask(INSTRUCTION + f"{n}", key=str(n), customer=str(n)) for n in range(4)))
    assert len(mlx._heads) == 0


def test_prompts_that_come_one_after_the_other_share_their_head_too(mlx: MlxEngine, ask) -> None:
    for number in range(3):
        run(mlx, ask(INSTRUCTION + f"{number}", customer="a"))
    assert len(mlx._heads) == 1


def test_requests_join_a_running_batch(mlx: MlxEngine, ask) -> None:
    mlx.add(ask(TEXT, key="first", max_tokens=30))
    for _ in range(5):
        mlx.step()
    mlx.add(ask("Say yes.", key="second", max_tokens=2))
    finished = []
    while mlx.busy:
        finished += [event.id for event in mlx.step() if isinstance(event, Finished)]
    assert finished == ["second", "first"]


def test_no_more_run_at_once_than_there_are_slots(babble: EngineSpec, ask) -> None:
    mlx = MlxEngine(babble)
    mlx.load()
    for number in range(20):
        mlx.add(ask(f"{number}", key=str(number)))
    while mlx.busy:
        assert len(mlx._running) <= babble.slots
        mlx.step()


def test_stop_string_split_over_two_tokens_ends_the_answer(mlx: MlxEngine, ask) -> None:
    full = run(mlx, ask(TEXT, max_tokens=24))[0]
    middle = len(full.text) // 2
    stop = full.text[middle - 4 : middle + 4]
    stopped = run(mlx, ask(TEXT, max_tokens=24, stop=(stop,)))[0]
    assert stopped.finish == "stop"
    assert stopped.text == full.text[: full.text.index(stop)]
    assert stopped.completion_tokens < full.completion_tokens


def test_the_models_stop_token_ends_the_answer_and_is_no_part_of_it(babble: EngineSpec, tmp_path: Path, ask) -> None:
    plain = MlxEngine(babble)
    plain.load()
    tokens = answered_tokens(plain, ask(TEXT, max_tokens=24))
    ending = next(place for place, token in enumerate(tokens) if place > 2 and token not in tokens[:place])
    shutil.copytree(babble.model_dir, tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        file = tmp_path / "model" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [tokens[ending]]}))
    mlx = MlxEngine(replace(babble, model_dir=tmp_path / "model"))
    mlx.load()
    stopped = run(mlx, ask(TEXT, max_tokens=24))[0]
    assert stopped.finish == "stop"
    assert stopped.completion_tokens == ending
    # mlx_lm's detokenizer leaves a leading space out.
    assert stopped.text == plain._model.tokenizer.decode(tokens[:ending]).removeprefix(" ")


def test_max_tokens_ends_the_answer(mlx: MlxEngine, ask) -> None:
    short, longer = run(mlx, ask(TEXT, key="1", max_tokens=3), ask(TEXT, key="2", max_tokens=9, stop=("never",)))
    assert short.completion_tokens <= 3
    assert longer.completion_tokens <= 9
    assert short.finish == "length" or short.completion_tokens < 3


def test_the_same_seed_gives_the_same_answer_whoever_else_is_there(mlx: MlxEngine, ask) -> None:
    def drawn(seed: int, key: str) -> GenerationRequest:
        return ask(TEXT, key=key, max_tokens=12, temperature=1.5, seed=seed)

    alone = run(mlx, drawn(7, "1"))[0].text
    others = [ask(TEXT, key=f"o{n}", max_tokens=12, temperature=1.5) for n in range(4)]
    among = run(mlx, *others[:2], drawn(7, "1"), drawn(8, "2"), *others[2:])
    assert among[2].text == alone
    assert among[3].text != alone


def test_nobody_draws_what_anothers_seed_decided(mlx: MlxEngine, ask) -> None:
    def unseeded_after_seed() -> str:
        run(mlx, ask(TEXT, max_tokens=2, temperature=1.5, seed=7))
        return run(mlx, ask(TEXT, max_tokens=12, temperature=1.5))[0].text

    assert unseeded_after_seed() != unseeded_after_seed()


def test_a_seed_of_any_size_is_taken(mlx: MlxEngine, ask) -> None:
    for seed in (-1, 0, 2**64, 2**100):
        run(mlx, ask("x", max_tokens=1, temperature=1.0, seed=seed))


def test_top_k_of_one_is_greedy_and_of_too_many_cuts_nothing(mlx: MlxEngine, ask) -> None:
    greedy, one, _ = run(
        mlx,
        ask(TEXT, key="1", max_tokens=8),
        ask(TEXT, key="2", max_tokens=8, temperature=0.7, top_k=1),
        ask(TEXT, key="3", max_tokens=8, temperature=0.7, top_k=10**6, top_p=0.9),
    )
    assert one.text == greedy.text


def test_a_frequency_penalty_keeps_tokens_from_coming_again(mlx: MlxEngine, ask) -> None:
    tokens = answered_tokens(mlx, ask(TEXT, max_tokens=40, frequency_penalty=1000.0))
    assert len(set(tokens)) == len(tokens) == 40


def test_a_frequency_penalty_counts_the_same_behind_a_shared_head(mlx: MlxEngine, ask) -> None:
    def repeating(customer: str) -> list[GenerationRequest]:
        # Below zero it is a reward: the first token comes again and again.
        return [ask(INSTRUCTION + body, key=body, customer=customer, frequency_penalty=-1000.0) for body in "xyz"]

    shared = run(mlx, *repeating("a"))
    assert len(mlx._heads) == 1
    assert texts(shared) == [run(mlx, request)[0].text for request in repeating("")]
    assert len(set(answered_tokens(mlx, repeating("a")[0]))) == 1


def test_a_prompt_over_the_context_is_refused_with_what_fits(mlx: MlxEngine, ask) -> None:
    with pytest.raises(PromptError) as caught:
        mlx.add(ask(TEXT * 100, max_tokens=100))
    assert "2048" in str(caught.value)
    assert "1948" in caught.value.hint
    assert not mlx.busy


def test_a_prompt_that_just_fits_is_answered(mlx: MlxEngine, ask) -> None:
    size = len(mlx._model.prompt(ask(TEXT * 10).messages))
    generation = run(mlx, ask(TEXT * 10, max_tokens=2048 - size, stop=("e", "a", "o", " ", "n", "t")))[0]
    assert generation.prompt_tokens == size
    with pytest.raises(PromptError):
        mlx.add(ask(TEXT * 10, max_tokens=2048 - size + 1))


@pytest.mark.parametrize("sampling", [{"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}])
def test_sampling_that_makes_no_sense_is_refused(mlx: MlxEngine, ask, sampling) -> None:
    with pytest.raises(PromptError):
        mlx.add(ask("x", **sampling))


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6])
def test_a_request_can_be_cancelled_at_every_stage_and_the_others_go_on(mlx: MlxEngine, ask, steps: int) -> None:
    kept = [ask(TEXT + f"{n}", key=f"k{n}", max_tokens=12) for n in range(3)]
    expected = texts(run(mlx, *kept))
    gone = [ask(TEXT * 9, key=f"g{n}", customer=f"g{n}", max_tokens=12) for n in range(3)]
    for request in (gone[0], kept[0], gone[1], kept[1], kept[2], gone[2]):
        mlx.add(request)
    events: list[Event] = []
    for _ in range(steps):
        events += mlx.step()
    for request in gone:
        mlx.cancel(request.id)
    cut = len(events)
    while mlx.busy:
        events += mlx.step()
    assert not [event for event in events[cut:] if event.id.startswith("g")]
    done = {event.id: event.generation.text for event in events if isinstance(event, Finished)}
    assert [done[request.id] for request in kept] == expected


def test_cancelling_everything_leaves_an_engine_that_answers(mlx: MlxEngine, ask) -> None:
    for number in range(10):
        mlx.add(ask(TEXT, key=str(number)))
    mlx.step()
    mlx.step()
    for number in range(10):
        mlx.cancel(str(number))
    assert not mlx.busy
    assert run(mlx, ask(TEXT))[0].completion_tokens > 0


def test_system_and_earlier_turns_are_part_of_the_prompt(mlx: MlxEngine, ask) -> None:
    said = [("system", "Be short."), ("user", "Hi"), ("assistant", "Hi."), ("user", "Bye")]
    turns = tuple(Message(role, content) for role, content in said)
    chat = GenerationRequest("1", turns, Sampling(max_tokens=2), "needle-1")
    assert run(mlx, chat)[0].prompt_tokens > run(mlx, ask("Bye", max_tokens=2))[0].prompt_tokens


def test_tokens_are_counted(mlx: MlxEngine, ask) -> None:
    generations = run(mlx, ask(TEXT, key="1", max_tokens=5), ask(TEXT * 2, key="2", max_tokens=7))
    assert mlx.tokens.prompt == sum(generation.prompt_tokens for generation in generations)
    assert mlx.tokens.completion >= sum(generation.completion_tokens for generation in generations)


def test_files_that_are_no_model_are_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError):
        MlxEngine(EngineSpec("mlx", "junk", tmp_path)).load()
