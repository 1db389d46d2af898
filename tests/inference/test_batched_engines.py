"""The engines that batch, each in this process, on the packaged model's layout with random weights."""

import json
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pylon.errors import ModelError, PromptError
from pylon.inference.batching.batched import BatchedEngine
from pylon.inference.batching.interfaces import Token
from pylon.inference.batching.reuse import AnswerStore
from pylon.inference.child.main import open_engine
from pylon.inference.engine import (
    EngineSpec,
    Event,
    Failed,
    Finished,
    Generation,
    GenerationRequest,
    Message,
    Progress,
    Sampling,
)
from pylon.inference.mlx.engine import MlxEngine
from pylon.inference.models.weights import weights_sha256
from tests.inference.conftest import LLAMA

CONTEXT = 2048

TEXT = (
    "The harbour was quiet in the morning. Boats lay in rows, and gulls walked between the nets. "
    "A man in a blue coat counted crates, wrote the number on a board, and went home before the rain came. "
)
INSTRUCTION = "Read the text and say in one line what it is about. " + TEXT


@pytest.fixture(params=["mlx", LLAMA])
def engine(request: pytest.FixtureRequest) -> Iterator[BatchedEngine]:
    spec = request.getfixturevalue("babble" if request.param == "mlx" else "babble_gguf")
    made = open_engine(spec)
    assert isinstance(made, BatchedEngine)
    made.load()
    # Every answer is computed: what is given again has a file of its own, test_reuse.py.
    made._replies.answers = AnswerStore(most=0)
    yield made
    made.close()


def run(engine: BatchedEngine, *requests: GenerationRequest) -> list[Generation]:
    for request in requests:
        engine.add(request)
    done: dict[str, Generation] = {}
    while engine.busy:
        for event in engine.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Finished):
                done[event.id] = event.generation
    return [done[request.id] for request in requests]


def answered_tokens(engine: BatchedEngine, request: GenerationRequest) -> list[int]:
    """The tokens themselves: encoding the text again may cut it otherwise."""
    said: list[int] = []
    step = engine._rows.step

    def listening() -> list[Token]:
        heard = step()
        said.extend(each.token for each in heard if each.finish != "stop")
        return heard

    engine._rows.step = listening
    run(engine, request)
    engine._rows.step = step
    return said


def texts(generations: list[Generation]) -> list[str]:
    return [generation.text for generation in generations]


def test_the_model_is_named_by_its_weights(babble: EngineSpec) -> None:
    info = MlxEngine(babble).load()
    assert (info.id, info.engine, info.context, info.quantization) == ("babble", "mlx", CONTEXT, "float32")
    assert info.sha256 == weights_sha256(babble.model_dir)


def test_greedy_answers_in_a_batch_are_those_given_alone(engine: BatchedEngine, ask) -> None:
    # More than there are slots.
    prompts = [f"{number}. {TEXT[number:]}" * (1 + number % 3) for number in range(10)]
    together = run(engine, *(ask(prompt, key=str(n), max_tokens=8) for n, prompt in enumerate(prompts)))
    alone = [run(engine, ask(prompt, customer=f"c{n}", max_tokens=8))[0] for n, prompt in enumerate(prompts)]
    assert texts(together) == texts(alone)


def test_answers_with_a_shared_head_are_those_without(engine: BatchedEngine, ask) -> None:
    bodies = [f"Piece {number}: {TEXT[number * 7 :]}" for number in range(8)]
    shared = run(engine, *(ask(INSTRUCTION + body, key=str(n), customer="a") for n, body in enumerate(bodies)))
    assert len(engine._prefixes) == 1
    apart = run(engine, *(ask(INSTRUCTION + body, key=str(n), customer=f"c{n}") for n, body in enumerate(bodies)))
    assert len(engine._prefixes) == 1
    assert texts(shared) == texts(apart)


def test_prompts_are_made_ready_on_another_thread_while_answers_are_computed(engine: BatchedEngine, ask) -> None:
    bodies = [f"Piece {number}: {TEXT[number * 3 :]}" for number in range(12)]

    def asked(customer: str) -> list[GenerationRequest]:
        return [ask(INSTRUCTION + body, key=body, customer=customer, max_tokens=4) for body in bodies]

    inline = texts(run(engine, *asked("a")))
    done: dict[str, str] = {}
    with ThreadPoolExecutor(1) as other:
        coming = deque(other.submit(engine.prepare, request) for request in asked("b"))
        while coming or engine.busy:
            while coming and coming[0].done():
                engine.take(coming.popleft().result())
            done |= {event.id: event.generation.text for event in engine.step() if isinstance(event, Finished)}
    assert [done[body] for body in bodies] == inline


def test_enough_are_gathered_when_they_fill_the_slots(engine: BatchedEngine, ask) -> None:
    for number in range(engine._spec.slots):
        assert not engine.gathered
        engine.add(ask(f"{number}", key=str(number)))
    assert engine.gathered


def test_a_head_that_grows_is_built_on_the_one_that_is_there(engine: BatchedEngine, ask) -> None:
    first = run(engine, *(ask(INSTRUCTION + body, key=body, customer="a") for body in "xyz"))
    longer = INSTRUCTION + "x" + TEXT
    grown = run(engine, *(ask(longer + body, key=body, customer="a") for body in "xyz"))
    assert len(engine._prefixes) == 2
    apart = run(engine, *(ask(longer + body, key=body, customer=body) for body in "xyz"))
    assert texts(grown) == texts(apart)
    again = run(engine, *(ask(INSTRUCTION + body, key=body, customer="a") for body in "xyz"))
    assert texts(first) == texts(again), "the shorter prefix is as it was"
    assert texts(first) == texts(run(engine, *(ask(INSTRUCTION + body, key=body, customer=body) for body in "xyz")))


def test_a_head_is_not_shared_between_customers(engine: BatchedEngine, ask) -> None:
    run(engine, *(ask(INSTRUCTION + f"{n}", key=str(n), customer=str(n)) for n in range(4)))
    assert len(engine._prefixes) == 0


def test_prompts_that_come_one_after_the_other_share_their_head_too(engine: BatchedEngine, ask) -> None:
    for number in range(3):
        run(engine, ask(INSTRUCTION + f"{number}", customer="a"))
    assert len(engine._prefixes) == 1


def test_how_long_the_prompt_was_is_said_while_the_answer_is_made(engine: BatchedEngine, ask) -> None:
    engine.add(ask("Tell a story", max_tokens=4, stream=True))
    events = [event for _ in range(20) if engine.busy for event in engine.step()]
    [finished] = [event for event in events if isinstance(event, Finished)]
    steps = [event for event in events if isinstance(event, Progress)]
    assert steps
    assert {step.prompt_tokens for step in steps} == {finished.generation.prompt_tokens}


def test_requests_join_a_running_batch(engine: BatchedEngine, ask) -> None:
    engine.add(ask(TEXT, key="first", max_tokens=30))
    for _ in range(5):
        engine.step()
    engine.add(ask("Say yes.", key="second", max_tokens=2))
    finished = []
    while engine.busy:
        finished += [event.id for event in engine.step() if isinstance(event, Finished)]
    assert finished == ["second", "first"]


def test_no_more_run_at_once_than_there_are_slots(engine: BatchedEngine, ask) -> None:
    for number in range(20):
        engine.add(ask(f"{number}", key=str(number)))
    while engine.busy:
        assert len(engine._running) <= engine._spec.slots
        engine.step()


def test_stop_string_split_over_two_tokens_ends_the_answer(engine: BatchedEngine, ask) -> None:
    full = run(engine, ask(TEXT, max_tokens=24))[0]
    middle = len(full.text) // 2
    stop = full.text[middle - 4 : middle + 4]
    stopped = run(engine, ask(TEXT, max_tokens=24, stop=(stop,)))[0]
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
    ending_engine = MlxEngine(replace(babble, model_dir=tmp_path / "model"))
    ending_engine.load()
    stopped = run(ending_engine, ask(TEXT, max_tokens=24))[0]
    assert stopped.finish == "stop"
    assert stopped.completion_tokens == ending
    # mlx_lm's detokenizer leaves a leading space out.
    assert stopped.text == plain._model.tokenizer.decode(tokens[:ending]).removeprefix(" ")


def test_max_tokens_ends_the_answer(engine: BatchedEngine, ask) -> None:
    short, longer = run(engine, ask(TEXT, key="1", max_tokens=3), ask(TEXT, key="2", max_tokens=9, stop=("never",)))
    assert short.completion_tokens <= 3
    assert longer.completion_tokens <= 9
    assert short.finish == "length" or short.completion_tokens < 3


def test_the_same_seed_gives_the_same_answer_whoever_else_is_there(engine: BatchedEngine, ask) -> None:
    def drawn(seed: int, key: str) -> GenerationRequest:
        return ask(TEXT, key=key, max_tokens=12, temperature=1.5, seed=seed)

    alone = run(engine, drawn(7, "1"))[0].text
    others = [ask(TEXT, key=f"o{n}", max_tokens=12, temperature=1.5) for n in range(4)]
    among = run(engine, *others[:2], drawn(7, "1"), drawn(8, "2"), *others[2:])
    assert among[2].text == alone
    assert among[3].text != alone


def test_nobody_draws_what_anothers_seed_decided(engine: BatchedEngine, ask) -> None:
    def unseeded_after_seed() -> str:
        run(engine, ask(TEXT, max_tokens=2, temperature=1.5, seed=7))
        return run(engine, ask(TEXT, max_tokens=12, temperature=1.5))[0].text

    assert unseeded_after_seed() != unseeded_after_seed()


def test_a_seed_of_any_size_is_taken(engine: BatchedEngine, ask) -> None:
    for seed in (-1, 0, 2**64, 2**100):
        run(engine, ask("x", max_tokens=1, temperature=1.0, seed=seed))


def test_top_k_of_one_is_greedy_and_of_too_many_cuts_nothing(engine: BatchedEngine, ask) -> None:
    greedy, one, _ = run(
        engine,
        ask(TEXT, key="1", max_tokens=8),
        ask(TEXT, key="2", max_tokens=8, temperature=0.7, top_k=1),
        ask(TEXT, key="3", max_tokens=8, temperature=0.7, top_k=10**6, top_p=0.9),
    )
    assert one.text == greedy.text


@pytest.mark.parametrize("nothing", [{"top_p": 0.0}, {"top_p": 1e-50}, {"temperature": 1e-50}])
def test_a_temperature_or_a_top_p_of_next_to_nothing_is_greedy(engine: BatchedEngine, ask, nothing) -> None:
    plain, *drawn = run(
        engine,
        ask(TEXT, key="1", max_tokens=8),
        *(ask(TEXT, key=key, max_tokens=8, **{"temperature": 1.0, "seed": 3} | nothing) for key in "23"),
    )
    assert [each.text for each in drawn] == [plain.text] * 2


def test_a_frequency_penalty_keeps_tokens_from_coming_again(engine: BatchedEngine, ask) -> None:
    tokens = answered_tokens(engine, ask(TEXT, max_tokens=40, frequency_penalty=1000.0))
    assert len(set(tokens)) == len(tokens) == 40


def test_a_frequency_penalty_counts_the_same_behind_a_shared_prefix(engine: BatchedEngine, ask) -> None:
    def repeating(customer: str) -> list[GenerationRequest]:
        # Below zero it is a reward: the first token comes again and again.
        return [ask(INSTRUCTION + body, key=body, customer=customer, frequency_penalty=-1000.0) for body in "xyz"]

    shared = run(engine, *repeating("a"))
    assert len(engine._prefixes) == 1
    assert texts(shared) == [run(engine, request)[0].text for request in repeating("")]
    assert len(set(answered_tokens(engine, repeating("a")[0]))) == 1


def test_a_prompt_over_the_context_is_refused_with_what_fits(engine: BatchedEngine, ask) -> None:
    with pytest.raises(PromptError) as caught:
        engine.add(ask(TEXT * 100, max_tokens=100))
    assert "2048" in str(caught.value)
    assert "1948" in caught.value.hint
    assert not engine.busy


def test_a_prompt_that_just_fits_is_answered(engine: BatchedEngine, ask) -> None:
    size = len(engine._model.prompt(ask(TEXT * 10).messages))
    generation = run(engine, ask(TEXT * 10, max_tokens=2048 - size, stop=("e", "a", "o", " ", "n", "t")))[0]
    assert generation.prompt_tokens == size
    with pytest.raises(PromptError):
        engine.add(ask(TEXT * 10, max_tokens=2048 - size + 1))


@pytest.mark.parametrize("sampling", [{"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}])
def test_sampling_that_makes_no_sense_is_refused(engine: BatchedEngine, ask, sampling) -> None:
    with pytest.raises(PromptError):
        engine.add(ask("x", **sampling))


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6])
def test_a_request_can_be_cancelled_at_every_stage_and_the_others_go_on(
    engine: BatchedEngine, ask, steps: int
) -> None:
    kept = [ask(TEXT + f"{n}", key=f"k{n}", max_tokens=12) for n in range(3)]
    expected = texts(run(engine, *kept))
    gone = [ask(TEXT * 9, key=f"g{n}", customer=f"g{n}", max_tokens=12) for n in range(3)]
    for request in (gone[0], kept[0], gone[1], kept[1], kept[2], gone[2]):
        engine.add(request)
    events: list[Event] = []
    for _ in range(steps):
        events += engine.step()
    for request in gone:
        engine.cancel(request.id)
    cut = len(events)
    while engine.busy:
        events += engine.step()
    assert not [event for event in events[cut:] if event.id.startswith("g")]
    done = {event.id: event.generation.text for event in events if isinstance(event, Finished)}
    assert [done[request.id] for request in kept] == expected


def test_cancelling_everything_leaves_an_engine_that_answers(engine: BatchedEngine, ask) -> None:
    for number in range(10):
        engine.add(ask(TEXT, key=str(number)))
    engine.step()
    engine.step()
    for number in range(10):
        engine.cancel(str(number))
    assert not engine.busy
    assert run(engine, ask(TEXT))[0].completion_tokens > 0


def test_system_and_earlier_turns_are_part_of_the_prompt(engine: BatchedEngine, ask) -> None:
    said = [("system", "Be short."), ("user", "Hi"), ("assistant", "Hi."), ("user", "Bye")]
    turns = tuple(Message(role, content) for role, content in said)
    chat = GenerationRequest("1", turns, Sampling(max_tokens=2), "needle-1")
    assert run(engine, chat)[0].prompt_tokens > run(engine, ask("Bye", max_tokens=2))[0].prompt_tokens


def test_tokens_are_counted(engine: BatchedEngine, ask) -> None:
    generations = run(engine, ask(TEXT, key="1", max_tokens=5), ask(TEXT * 2, key="2", max_tokens=7))
    assert engine.tokens.prompt == sum(generation.prompt_tokens for generation in generations)
    assert engine.tokens.completion >= sum(generation.completion_tokens for generation in generations)


@pytest.mark.parametrize("config", [{}, {"model_type": "no such architecture"}])
def test_files_that_are_no_model_are_a_model_error(tmp_path: Path, config: dict[str, str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError):
        MlxEngine(EngineSpec("mlx", "junk", tmp_path)).load()
