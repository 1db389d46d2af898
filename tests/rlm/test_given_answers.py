"""Which answers count: those of the REPL, and those that a turn gives in prose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import SandboxError
from pylon.rlm.finals import Meant, meant
from pylon.rlm.loop_state import Reason
from pylon.rlm.parsing import Final
from pylon.rlm.repl.protocol import CellLimits
from pylon.rlm.settings import LoopSettings
from tests.rlm.fakes import Stage, repl

FAILED = "a failed call (failed): failed on purpose: FAIL"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("FINAL(llm_query('FAIL'))", FAILED),
        ("answer['content'] = llm_query('FAIL'); answer['ready'] = True", FAILED),
        ("SUBMIT(llm_query_batched(['FAIL', 'FAIL']))", FAILED),
        ("FINAL({'a': llm_query('FAIL')})", FAILED),
        ("r = llm_query('FAIL')\nFINAL_VAR('r')", FAILED),
        ("FINAL(None)", "nothing"),
        ("FINAL('  ')", "nothing"),
        ("answer['ready'] = True", "nothing"),
        ("answer = {'ready': True}", "nothing"),
        ("FINAL()", "nothing"),
        ("import json\nFINAL(json)", "a module"),
        ("def f(): pass\nFINAL(f)", "a function"),
        ("FINAL(print)", "a builtin_function_or_method"),
        ("class A: pass\nFINAL(A)", "a type"),
        (
            "FINAL(x for x in 'ab')",
            "a generator, whose values were not drawn yet; make a list or a text of them first",
        ),
        ("FINAL(map(str, [1]))", "a map, whose"),
        ("g = (llm_query(f'{n}') for n in range(3))\nprint(end='')\nFINAL_VAR('g')", "a generator, whose"),
        ("async def f(): pass\nFINAL(f())", "a coroutine"),
    ],
)
async def test_what_is_no_answer_is_not_taken_and_the_code_hears_why(open_repl, code, why):
    repl = await open_repl()
    outcome = await repl.run(f"print('ran')\n{code}")
    assert outcome.answer is None and outcome.stdout == "ran\n"
    assert outcome.error.kind == "exception" and f"`answer` was not taken: it is {why}" in outcome.error.text
    # Nor is it by the next cell, that has said nothing.
    assert (await repl.run("x = 1")).answer is None
    assert (await repl.run("FINAL('it')")).answer.ready


@pytest.mark.parametrize(
    ("code", "text"), [("FINAL(0)", "0"), ("FINAL(False)", "False"), ("FINAL([])", "[]"), ("FINAL({})", "{}")]
)
async def test_an_answer_that_is_no_text_may_be_empty(open_repl, code, text):
    repl = await open_repl()
    outcome = await repl.run(code)
    assert (outcome.answer.content, outcome.answer.ready, outcome.error) == (text, True, None)


async def test_a_misspelt_name_of_a_variable_is_no_answer_and_the_code_hears_of_it(open_repl):
    repl = await open_repl()
    outcome = await repl.run("result = 'Paris'\nprint('ran')\nFINAL_VAR('reslt')")
    assert outcome.error.kind == "exception" and "there is no variable 'reslt'" in outcome.error.text
    assert not outcome.gives_answer and outcome.stdout == "ran\n"
    assert (await repl.run("FINAL_VAR('result')")).answer.content == "Paris"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("result = 'Paris'\nFINAL_VAR(result)", "Paris"),
        ("FINAL_VAR(llm_query('paris'))", "PARIS"),
        ("FINAL_VAR('Paris, in 1843')", "Paris, in 1843"),
        ("FINAL_VAR(29)", "29"),
    ],
)
async def test_a_value_in_the_place_of_a_variables_name_is_the_answer(open_repl, code, text):
    repl = await open_repl()
    outcome = await repl.run(code)
    assert outcome.gives_answer and outcome.answer.content == text


async def test_a_list_that_holds_failed_calls_among_others_is_partial(open_repl):
    repl = await open_repl()
    outcome = await repl.run("FINAL(llm_query_batched(['a', 'FAIL', 'b']))")
    assert (outcome.answer.ready, outcome.answer.partial) == (True, "1 of the 3 values in it is a failed call")


@pytest.mark.parametrize(
    "code",
    [
        "answer['ready'] = True\nanswer['content'] = str(1 / 0)",
        "answer.update(content='half', ready=True)\nraise KeyError('x')",
        "class D(dict):\n    def __setitem__(self, *_): 1 / 0\nanswer = D(content='half', ready=True)\n1 / 0",
    ],
)
async def test_the_answer_of_a_cell_that_raised_is_not_ready_then_or_later(open_repl, code):
    repl = await open_repl()
    outcome = await repl.run(code)
    assert outcome.error.kind == "exception" and not (outcome.answer and outcome.answer.ready)
    assert "`answer` was not taken, as the cell failed" in outcome.error.text
    later = await repl.run("x = 1")
    assert not (later.answer and later.answer.ready)


async def test_an_answer_of_a_cell_that_made_too_many_calls_is_ready(open_repl):
    repl = await open_repl(limits=CellLimits(seconds=20, calls=2))
    outcome = await repl.run("FINAL(len(llm_query_batched(['a', 'b', 'c'])))")
    assert outcome.error.kind == "calls" and outcome.answer.ready


@pytest.mark.parametrize(
    ("code", "why"),
    [("named = llm_query('FAIL')", FAILED), ("import json as named", "a module"), ("named = None", "nothing")],
)
async def test_a_variable_that_is_no_answer_says_what_it_is(open_repl, code, why):
    repl = await open_repl()
    await repl.run(code)
    with pytest.raises(SandboxError, match="named") as caught:
        await repl.value("named")
    assert why in str(caught.value)


async def test_an_answer_set_before_the_cell_failed_ends_no_run(tmp_path):
    broken = repl("answer.update(content='half', ready=True)\nraise KeyError('x')")
    stage = Stage(tmp_path, [broken, repl("answer.update(content='whole', ready=True)")])
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial, outcome.turns) == ("whole", False, 2)


async def test_an_answer_that_lacks_calls_over_the_cells_limit_is_partial(tmp_path, backend):
    from pylon.rlm.repl.host import ChildRepl

    turn = repl("FINAL(len(llm_query_batched(['a', 'b', 'c'])))")
    settings = LoopSettings(cell=CellLimits(seconds=20, calls=2))
    outcome = await Stage(tmp_path, [turn], settings=settings, open_repl=lambda: ChildRepl(backend)).run()
    assert (outcome.answer, outcome.partial, outcome.reason) == ("3", True, Reason.FINAL)
    assert "1 sub-calls were not made" in outcome.detail


@pytest.mark.parametrize(
    ("code", "said", "answer"),
    [
        ("where = 'Paris'", "where", "Paris"),
        ("found = ['a']", "found", "['a']"),
        ("total_count = 29", "total_count", "29"),
        ("n2 = 29", "n2", "29"),
        ("import json", "json", "json"),
        ("def late(): pass", "late", "late"),
        ("x = 1", "yes", "yes"),
        ("x = 1", "context", "context"),
    ],
)
async def test_a_word_in_prose_is_the_variable_only_where_that_can_be_an_answer(tmp_path, code, said, answer):
    outcome = await Stage(tmp_path, [repl(code), f"FINAL({said})"]).run()
    assert (outcome.answer, outcome.turns) == (answer, 2)


@pytest.mark.parametrize(
    ("then", "answer"), [("FINAL(yes)", "yes"), ('FINAL("yes")', "yes"), ("FINAL_VAR(yes)", "0"), ("FINAL(no)", "no")]
)
async def test_a_word_that_may_be_meant_as_such_or_as_a_variable_is_asked_about_once(tmp_path, then, answer):
    stage = Stage(tmp_path, [repl("yes = 0"), "So it is:\nFINAL(yes)", then])
    outcome = await stage.run()
    assert (outcome.answer, outcome.turns) == (answer, 3)
    assert 'FINAL("yes")' in stage.root.chats[2][-1].content and "FINAL_VAR(yes)" in stage.root.chats[2][-1].content


async def test_a_last_turn_is_not_asked_what_it_means_and_its_word_stands(tmp_path):
    outcome = await Stage(tmp_path, [repl("yes = 0"), "FINAL(yes)"], settings=LoopSettings(turns=1)).run()
    assert (outcome.answer, outcome.partial) == ("yes", True)


@given(st.text(max_size=20), st.text(max_size=20), st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_only_a_name_of_the_runs_own_is_ever_read_for_a_word(text, variable, variables):
    said = meant(Final(text, variable), variables)
    if said is not Meant.TEXT:
        assert variable and (not text or variable in variables)
    if not text and variable:
        assert said is Meant.VARIABLE
