"""Strategies without a root model, as programs in a REPL. The sub-models here are functions, and named so."""

import random
import re
from importlib.resources import files
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.models import needle
from pylon.jobs import fit
from pylon.rlm import strategies
from pylon.rlm.budget import Limits
from pylon.rlm.loop_state import Reason
from pylon.rlm.runs import Run
from pylon.rlm.settings import SubSettings
from pylon.rlm.strategies import ProgramRoot, phrasings, program
from pylon.rlm.sublm import FunctionSubLM, SubFailure, SubModels
from pylon.rlm.viewer import export_rlm
from tests.rlm.fakes import Stage

KEY, VALUE = "amber-falcon", "7654321"
QUESTION = f"What is the special magic number for {KEY}?"
READER = SubModels((needle.MODEL_ID,), 2_048, 32)
ANY = SubModels(("some-model",), 2_048, 32)


def text(characters, seed=1):
    """Words and numbers, with one statement somewhere."""
    rng = random.Random(seed)
    vocabulary = ["river", "stone", "the", "1984", "magic", "number", "falcon"]
    words = " ".join(rng.choices(vocabulary, k=characters // 6))
    at = words.index(" ", rng.randrange(len(words) // 10, len(words) * 9 // 10))
    return f"{words[:at]} The special magic number for {KEY} is {VALUE}.{words[at:]}"


def reader(miss=0.0, invent=0.0, seed=3):
    """Reads like needle-1: the value, or `none`; errs on a share of prompts, always alike on the same one."""

    def answer(prompt):
        rng = random.Random(f"{seed} {prompt}")
        piece = prompt.split("\n\n", 1)[1]
        stated = re.search(rf"magic number for {KEY} is (\d+)", piece)
        if stated:
            return needle.ABSENT if rng.random() < miss else stated[1]
        numbers = re.findall(r"\d+", piece)
        return rng.choice(numbers) if numbers and rng.random() < invent else needle.ABSENT

    return FunctionSubLM(answer, models=READER)


async def run(tmp_path, strategy, sub, context, question=QUESTION, limits=None):
    settings = SubSettings(max_tokens=16)
    root = ProgramRoot(strategy, program(strategy, question, sub.models, answer_tokens=16))
    stage = Stage(tmp_path, root, sub, sub_settings=settings)
    return stage, await stage.run(question, context, limits)


@pytest.mark.parametrize("strategy", ["map-reduce", "search"])
async def test_a_reader_finds_what_is_stated_once(tmp_path, strategy):
    stage, outcome = await run(tmp_path, strategy, reader(), text(60_000))
    assert (outcome.answer, outcome.partial, outcome.reason) == (VALUE, False, Reason.FINAL)
    assert stage.events("turn")[0]["model"] == f"program:{strategy}"


async def test_what_no_model_was_told_stands_in_no_record(tmp_path):
    stage, _ = await run(tmp_path, "search", reader(), text(20_000))
    [loop] = stage.events("loop")
    assert (loop["system"]["chars"], loop["opening"]["chars"]) == (0, 0)
    [iteration] = [line for line in export_rlm(Run(stage.trajectory.folder)) if line["type"] == "iteration"]
    assert iteration["prompt"] == []


async def test_map_reduce_asks_about_every_character_and_search_about_few(tmp_path):
    context = text(200_000)
    every, _ = await run(tmp_path / "a", "map-reduce", reader(), context)
    first = [job.prompt.split("\n\n", 1)[1] for job in every.sub.jobs[:-8]]
    assert all(piece in context for piece in first)
    covered, at = 0, 0
    for piece in first:
        at = context.index(piece, max(0, at - needle.CHUNK_CHARS))
        assert at <= covered
        covered = at + len(piece)
    assert covered == len(context)
    few, outcome = await run(tmp_path / "b", "search", reader(), context)
    assert outcome.answer == VALUE and len(few.sub.jobs) < len(every.sub.jobs) / 2


async def test_a_reader_that_errs_is_outvoted_by_looks_at_the_surroundings(tmp_path):
    right = 0
    for seed in range(8):
        sub = reader(miss=0.05, invent=0.09, seed=seed)
        _, outcome = await run(tmp_path / str(seed), "map-reduce", sub, text(40_000, seed))
        right += outcome.answer == VALUE
    assert right == 8


async def test_what_the_first_cut_misses_another_round_finds(tmp_path):
    sub = reader()
    whole = sub._answer
    sub._answer = lambda prompt: needle.ABSENT if prompt.startswith(QUESTION) else whole(prompt)
    stage, outcome = await run(tmp_path, "map-reduce", sub, text(30_000))
    assert outcome.answer == VALUE
    assert "round 2" in stage.text(stage.events("cell")[0]["stdout"])


async def test_nothing_is_found_where_nothing_stands(tmp_path):
    context = text(30_000).replace(KEY, "amber-harbor")
    _, outcome = await run(tmp_path, "map-reduce", reader(invent=0.05), context)
    assert outcome.answer == needle.ABSENT


async def test_files_are_searched_one_by_one(tmp_path):
    files = {"a.txt": text(9_000).replace(KEY, "x"), "b.txt": text(9_000), "c.txt": ""}
    for number, strategy in enumerate(("map-reduce", "search")):
        _, outcome = await run(tmp_path / str(number), strategy, reader(), files)
        assert outcome.answer == VALUE


async def test_out_of_budget_the_best_so_far_is_given_and_marked_partial(tmp_path):
    context = text(60_000)
    stage, outcome = await run(tmp_path, "map-reduce", reader(), context, limits=Limits(calls=48))
    pieces = len(stage.events("returned")) - 8
    assert 40 < pieces < 48, "the text is read, and its looks are not all made"
    assert (outcome.answer, outcome.partial, outcome.reason) == (VALUE, True, Reason.BUDGET)
    assert "--calls (rlm.max_calls)" in outcome.hint


@pytest.mark.parametrize("models", [READER, ANY])
async def test_a_budget_that_ends_while_pieces_are_read_is_the_reason_and_nothing_is_asked_in_vain_after_it(
    tmp_path, models
):
    sub = FunctionSubLM(lambda _: needle.ABSENT, models=models)
    stage, outcome = await run(tmp_path, "map-reduce", sub, text(120_000), limits=Limits(calls=3))
    assert (outcome.answer, outcome.partial, outcome.reason) == (None, True, Reason.BUDGET)
    pieces = len(stage.events("returned"))
    assert outcome.detail == (
        f"3 of {pieces} pieces were read before the budget ended, and nothing was found in them;"
        " sub-calls were refused: calls"
    )
    assert outcome.hint == "To raise the budget: --calls (rlm.max_calls)."
    assert stage.events("final")[0]["hint"] == outcome.hint


async def test_what_was_found_before_the_budget_ended_is_a_partial_answer_without_a_second_look(tmp_path):
    context = f"The special magic number for {KEY} is {VALUE}. {text(60_000).replace(KEY, 'x')}"
    _, outcome = await run(tmp_path, "map-reduce", reader(), context, limits=Limits(calls=3))
    assert (outcome.answer, outcome.partial, outcome.reason) == (VALUE, True, Reason.BUDGET)
    assert re.match(r"3 of \d\d pieces were read before the budget ended; no second look", outcome.detail)


async def test_a_later_round_that_fails_does_not_undo_that_the_first_one_read_the_text(tmp_path):
    sub = FunctionSubLM(lambda _: needle.ABSENT, models=READER)
    # The first round asks as the question stands.
    sub._answer = lambda prompt: needle.ABSENT if prompt.startswith(QUESTION) else SubFailure("exhausted", "gone")
    _, outcome = await run(tmp_path, "map-reduce", sub, text(9_000))
    assert (outcome.answer, outcome.partial, outcome.reason) == (needle.ABSENT, True, Reason.FINAL)
    assert re.fullmatch(r"\d+ of \d+ pieces got no answer", outcome.detail)


async def test_failed_calls_do_not_end_a_map(tmp_path):
    sub = reader()
    whole = sub._answer
    late = SubFailure("deadline", "late")
    sub._answer = lambda prompt: late if crc32(prompt.encode()) % 7 == 0 and VALUE not in prompt else whole(prompt)
    _, outcome = await run(tmp_path, "map-reduce", sub, text(30_000))
    assert outcome.answer == VALUE


async def test_other_models_write_notes_that_are_put_together(tmp_path):
    def answer(prompt):
        if prompt.rstrip().endswith("none") or "Below is one part" in prompt:
            return "Falcons nest on cliffs. " * 20 if "falcon" in prompt.split("none\n\n")[1] else "none"
        if "shorter notes" in prompt:
            return "Falcons nest on cliffs."
        return "On cliffs." if "cliffs" in prompt else "It does not say."

    sub = FunctionSubLM(answer, models=ANY)
    stage, outcome = await run(tmp_path, "map-reduce", sub, text(120_000), question="Where do falcons nest?")
    assert outcome.answer == "On cliffs." and not outcome.partial
    window = max(len(job.prompt) for job in stage.sub.jobs)
    assert window / 3 < ANY.context_tokens


async def test_search_weighs_rare_words_and_ends_well_without_any(tmp_path):
    sub = FunctionSubLM(lambda _: "?", models=ANY)
    _, outcome = await run(tmp_path, "search", sub, "a b c", question="Who, what?")
    assert outcome.answer == needle.ABSENT


def test_a_known_question_has_other_wordings_and_an_unknown_one_has_none():
    assert phrasings(QUESTION)[0] == QUESTION and len(set(phrasings(QUESTION))) == len(needle.QUESTIONS)
    assert all(KEY in one for one in phrasings(QUESTION))
    assert phrasings("Who wrote it?") == ["Who wrote it?"]


def test_a_question_is_data_in_the_program():
    nasty = "x\"\"\"'''\n{key} \\ import os"
    compile(program("map-reduce", nasty, ANY, answer_tokens=64), "program", "exec")
    assert repr(nasty) in program("search", nasty, READER, answer_tokens=64)


def test_needle_is_asked_as_it_was_trained():
    code = program("map-reduce", QUESTION, READER, answer_tokens=strategies.READER_TOKENS)
    assert repr(needle.ask(QUESTION)) in code and f"PIECE = {needle.CHUNK_CHARS}" in code


@pytest.mark.parametrize("models", [READER, ANY])
async def test_where_no_call_is_answered_there_is_no_answer(tmp_path, models):
    sub = FunctionSubLM(lambda _: SubFailure("exhausted", "nobody is there"), models=models)
    _, outcome = await run(tmp_path, "map-reduce", sub, text(9_000), question="Where do falcons nest?")
    assert (outcome.answer, outcome.partial, outcome.reason) == (None, True, Reason.PROGRAM_FAILED)


async def test_without_a_conclusion_the_notes_are_the_answer(tmp_path):
    sub = FunctionSubLM(lambda prompt: f"note {len(prompt)}", models=ANY)
    _, outcome = await run(tmp_path, "map-reduce", sub, text(60_000), "Where?", limits=Limits(calls=3))
    assert outcome.partial and outcome.answer.count("note ") == 3


def script_text(script, characters):
    """Characters of a script at random with the fact somewhere in it."""
    rng = random.Random(5)
    low, high = {"Cyrillic": (0x430, 0x44F), "CJK": (0x4E00, 0x9FFF), "emoji": (0x1F300, 0x1F5FF)}[script]
    words = " ".join("".join(chr(rng.randint(low, high)) for _ in range(99)) for _ in range(characters // 100))
    at = len(words) // 2
    return f"{words[:at]} The magic number is {VALUE}. {words[at:]}"


def notes(limit_bytes=10**9):
    """Writes a note where the fact stands; takes prompts of at most so many bytes."""

    def answer(prompt):
        if len(prompt.encode()) > limit_bytes:
            return SubFailure("too_large", "this is too large here")
        return f"It is {VALUE}." if VALUE in prompt else needle.ABSENT

    return answer


@pytest.mark.parametrize("strategy", ["map-reduce", "search"])
@pytest.mark.parametrize("script", ["Cyrillic", "CJK", "emoji"])
async def test_pieces_fit_an_event_in_any_script_and_cover_all_of_it(tmp_path, script, strategy):
    sub = FunctionSubLM(notes(), models=SubModels(("some-model",), 32_768, 8))
    code = program(
        strategy, "What is the magic number?", sub.models, answer_tokens=256, prompt_bytes=fit.prompt_bytes()
    )
    settings = SubSettings(max_tokens=256, event_bytes=65_536)
    stage = Stage(tmp_path, ProgramRoot(strategy, code), sub, sub_settings=settings)
    context = script_text(script, 100_000)
    outcome = await stage.run("What is the magic number?", context)
    assert (outcome.answer, outcome.partial) == (f"It is {VALUE}.", False)
    assert not [event for event in stage.events("returned") if "code" in event]
    if strategy == "map-reduce":
        pieces = [job.prompt.split("none\n\n")[1] for job in sub.jobs if "none\n\n" in job.prompt]
        covered = 0
        for piece in pieces:
            at = context.index(piece, max(0, covered - len(piece)))
            assert at <= covered
            covered = at + len(piece)
        assert covered == len(context)


async def test_a_piece_that_is_too_large_for_whoever_answers_is_asked_about_in_halves(tmp_path):
    sub = FunctionSubLM(notes(limit_bytes=4_000), models=SubModels(("some-model",), 32_768, 8))
    stage, outcome = await run(tmp_path, "map-reduce", sub, script_text("CJK", 20_000), "What is the magic number?")
    assert (outcome.answer, outcome.partial) == (f"It is {VALUE}.", False)
    assert any("code" in event for event in stage.events("returned"))


@pytest.mark.parametrize("models", [READER, ANY])
async def test_pieces_without_an_answer_make_it_partial_and_are_counted(tmp_path, models):
    def answer(prompt):
        return SubFailure("deadline", "late") if "xyzzy" in prompt else VALUE if VALUE in prompt else needle.ABSENT

    context = f"{text(12_000)} {'xyzzy ' * 10} {'stone ' * 2_000}"
    _, outcome = await run(tmp_path, "map-reduce", FunctionSubLM(answer, models=models), context)
    assert (outcome.answer, outcome.partial, outcome.reason) == (VALUE, True, Reason.FINAL)
    assert re.fullmatch(r"1 of \d+ pieces got no answer", outcome.detail)


async def test_where_no_piece_is_answered_the_detail_says_why(tmp_path):
    sub = FunctionSubLM(lambda _: SubFailure("exhausted", "nobody is there"), models=ANY)
    _, outcome = await run(tmp_path, "map-reduce", sub, text(9_000), question="Where do falcons nest?")
    assert re.search(r"none of \d pieces got an answer; the last one: nobody is there\Z", outcome.detail)


COMMON = {"context": ""}
exec(files("pylon.rlm.programs").joinpath("common.py").read_text(encoding="utf-8"), COMMON)


@given(
    st.lists(st.text(st.sampled_from("a é漢🕷\n"), max_size=60).map(lambda part: part * 9)).map("".join),
    st.integers(40, 900),
    st.floats(0, 0.6),
)
def test_pieces_of_any_mixture_of_scripts_fit_and_leave_nothing_out(mixture, size, share):
    covered = 0
    for start, end in COMMON["spans"](mixture, size, size // 10, int(size * share)):
        assert start <= covered < end and len(mixture[start:end].encode()) <= size
        covered = end
    assert covered == len(mixture)


@pytest.mark.parametrize("script", ["Cyrillic", "CJK", "emoji"])
async def test_a_second_look_takes_no_more_bytes_than_a_piece_in_any_script(tmp_path, script):
    looks = []

    def answer(prompt):
        looks.append(len(prompt.split("\n\n", 1)[1].encode()))
        return VALUE if VALUE in prompt else needle.ABSENT

    context = script_text(script, 20_000)
    _, outcome = await run(tmp_path, "map-reduce", FunctionSubLM(answer, models=READER), context)
    assert (outcome.answer, outcome.partial) == (VALUE, False)
    assert max(looks) <= needle.CHUNK_CHARS


async def test_a_conclusion_that_finds_nothing_in_notes_leaves_the_notes(tmp_path):
    """As from a model that is made for texts alone, alive beside those that wrote the notes."""
    sub = FunctionSubLM(lambda prompt: "None." if "notes on the parts" in prompt else VALUE, models=ANY)
    _, outcome = await run(tmp_path, "map-reduce", sub, f"It is {VALUE}.")
    assert VALUE in outcome.answer and outcome.partial
    assert "found nothing there" in outcome.detail


async def test_one_piece_is_not_told_of_as_many(tmp_path):
    for models, said in ((READER, "round 1: 1 piece\n"), (ANY, "1 piece\n1 piece says something, 0 failed\n")):
        folder = tmp_path / models.models[0]
        sub = FunctionSubLM(lambda _: VALUE, models=models)
        stage, _ = await run(folder, "map-reduce", sub, f"It is {VALUE}.")
        assert stage.text(stage.events("cell")[0]["stdout"]).startswith(said)
