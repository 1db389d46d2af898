"""What a root's turn says, however it is written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.rlm.parsing import Final, parse_turn


@pytest.mark.parametrize("word", ["repl", "python", "py", "Python"])
def test_fenced_code_is_found_in_order(word):
    turn = parse_turn(f"First:\n```{word}\na = 1\n```\nthen\n```{word}\nb = 2\n```")
    assert turn.blocks == ("a = 1\n", "b = 2\n")


def test_other_languages_are_no_code_and_a_bare_fence_is_if_it_compiles():
    assert parse_turn("```json\n{}\n```").blocks == ()
    assert parse_turn("```\nprint(1)\n```").blocks == ("print(1)\n",)
    assert parse_turn("```\nnot python at all\n```").blocks == ()


def test_a_fence_that_was_never_closed_runs_only_if_it_is_whole():
    assert parse_turn("```repl\nprint(1)").blocks == ("print(1)",)
    turn = parse_turn("```repl\nfor x in range(3):\n    print(")
    assert turn.blocks == () and turn.cut_off


def test_fences_inside_of_strings_of_the_code_do_not_end_it_within_a_line():
    code = 'text = "say ```repl now"\nprint(text)\n'
    assert parse_turn(f"```repl\n{code}```").blocks == (code,)


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("FINAL(42)", Final("42")),
        ("FINAL(f(x) is (a) pair)", Final("f(x) is (a) pair")),
        ("FINAL(it never closes", Final("it never closes")),
        ('FINAL_VAR("result")', Final(variable="result")),
        ("FINAL_VAR(result)", Final(variable="result")),
        ("SUBMIT(answer='yes')", Final("yes")),
        ("FINAL(result)", Final("result", "result")),
        ("FINAL(first)\nNo: FINAL\nFINAL(second)", Final("second", "second")),
        ("I will call FINAL(x) later", None),
        ("```repl\nFINAL(3)\n```", None),
    ],
)
def test_answers_in_prose(text, final):
    assert parse_turn(text).final == final


@pytest.mark.parametrize(
    "text", ["```repl\n", "*", "<think>", "FINAL(", "```repl\nx\n```\n", "(", "FINAL_VAR(\n", "``` \n"], ids=repr
)
def test_megabytes_of_anything_are_read_in_linear_time(text):
    turn = parse_turn(text * (2_000_000 // len(text)))
    assert turn is not None


@settings(max_examples=60)
@given(st.text(alphabet="`replpython\n FINAL_VAR()x='\"<think>/", max_size=200))
def test_nothing_makes_it_raise(text):
    turn = parse_turn(text)
    assert all(block.strip() for block in turn.blocks)
