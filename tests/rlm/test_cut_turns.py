"""Turns that a root model's limit of tokens cut off."""

import pytest

from pylon.rlm.loop_state import Reason
from pylon.rlm.root import Reply, ScriptedRoot
from pylon.rlm.settings import LoopSettings
from tests.rlm.fakes import Stage, repl


class Limited(ScriptedRoot):
    """A script whose turns may be pairs: a text, and why it ended."""

    async def reply(self, messages, **loop):
        said = await super().reply(messages)
        text, finish = said.text if isinstance(said.text, tuple) else (said.text, "stop")
        return Reply(text, 10, 10, self.name, finish=finish)


def stage(folder, *turns, **options):
    return Stage(folder, Limited(list(turns)), **options)


def shown(run, turn):
    return run.root.chats[turn][-1].content


@pytest.mark.parametrize("finish", ["length", "size"])
@pytest.mark.parametrize(
    "said", ["FINAL(1. France, 2. Spain, 3. the Dutch Repu", "FINAL(1) France 2) the Du", "SUBMIT(a"]
)
async def test_an_answer_that_was_cut_off_is_asked_for_again_shorter(tmp_path, said, finish):
    run = stage(tmp_path, (said, finish), "FINAL(France and Spain)")
    outcome = await run.run()
    assert (outcome.answer, outcome.partial, outcome.turns) == ("France and Spain", False, 2)
    assert "Your answer was cut off" in shown(run, 1)


@pytest.mark.parametrize("said", ["FINAL(Paris)", "FINAL(Paris)\nFor it says so on page", 'FINAL("Paris") as it'])
async def test_an_answer_that_is_whole_stands_whatever_was_cut_off_behind_it(tmp_path, said):
    outcome = await stage(tmp_path, (said, "length")).run()
    assert (outcome.answer, outcome.partial, outcome.turns) == ("Paris", False, 1)


async def test_an_answer_without_its_bracket_stands_where_nothing_was_cut_off(tmp_path):
    outcome = await stage(tmp_path, "FINAL(France, Spain").run()
    assert (outcome.answer, outcome.turns) == ("France, Spain", 1)


@pytest.mark.parametrize("said", ["", "<think>Let me think", "Let me think about that"])
async def test_a_root_that_only_thinks_is_told_so_once_and_ends_with_what_to_do(tmp_path, said):
    run = stage(tmp_path, (said, "length"))
    outcome = await run.run()
    assert "cut off at its limit" in shown(run, 1)
    assert (outcome.answer, outcome.reason, outcome.turns) == (None, Reason.NO_CODE, 2)
    assert "2 turns in a row were cut off" in outcome.detail and "rlm.root_max_tokens" in outcome.hint
    assert len(run.root.chats) == 2 and run.events("final")[0]["hint"] == outcome.hint


async def test_a_root_that_said_something_before_has_its_last_turn_and_is_asked_once(tmp_path):
    run = stage(tmp_path, repl("answer['content'] = 'so far'"), ("", "length"))
    outcome = await run.run()
    assert (outcome.answer, outcome.partial, outcome.reason) == ("so far", True, Reason.NO_CODE)
    assert len(run.root.chats) == 4 and outcome.detail.endswith("the last turn was cut off at its limit of tokens")


async def test_a_last_turn_that_was_cut_off_says_so(tmp_path):
    run = stage(tmp_path, repl("print(1)"), ("It is Par", "length"), settings=LoopSettings(turns=1))
    outcome = await run.run()
    assert outcome.answer == "It is Par" and "the last turn was cut off" in outcome.detail


async def test_code_that_was_cut_off_is_not_run_though_it_would_compile(tmp_path):
    run = stage(tmp_path, ("```repl\nFINAL('a')\nmore = 1", "length"), repl("FINAL('b')"))
    assert (await run.run()).answer == "b"
    assert "not run" in shown(run, 1)


async def test_blocks_before_one_that_was_cut_off_run_and_the_root_hears_which_did_not(tmp_path):
    run = stage(tmp_path, (repl("print('first')") + "\n```repl\nx = 1", "length"), repl("FINAL('x' in globals())"))
    assert (await run.run()).answer == "False"
    assert "first" in shown(run, 1) and "last block was cut off" in shown(run, 1)


async def test_the_trajectory_says_why_a_turn_ended(tmp_path):
    run = stage(tmp_path, ("", "length"), "FINAL(x y)")
    await run.run()
    assert [event["finish"] for event in run.events("turn")] == ["length", "stop"]


async def test_a_root_whose_answer_never_fits_ends_with_the_start_of_it_and_what_to_do(tmp_path):
    outcome = await stage(tmp_path, ("FINAL(one, two, thr", "length")).run()
    assert (outcome.answer, outcome.partial, outcome.reason) == ("one, two, thr", True, Reason.NO_CODE)
    assert "the last one cut off" in outcome.detail and "rlm.root_max_tokens" in outcome.hint
