"""Fences as models write them: indented, and around code that holds fences itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.rlm.parsing import is_code, parse_turn

JSON = 'prompt = """Answer in JSON:\n```json\n{"a": 1}\n```\nText: """ + context[:10]\nprint(prompt)\n'


@pytest.mark.parametrize("indent", ["", "   ", "\t", "    "])
def test_a_block_of_a_list_item_is_dedented_by_its_fence(indent):
    code = "for x in range(3):\n    print(x)\n\nprint('end')\n"
    lines = "".join(indent + line if line.strip() else line for line in code.splitlines(keepends=True))
    assert parse_turn(f"1. I look:\n\n{indent}```repl\n{lines}{indent}```\n").blocks == (code,)


def test_code_that_stands_further_left_than_its_fence_stays_as_it_is():
    code = "for x in range(3):\n    print(x)\n"
    assert parse_turn(f"   ```repl\n{code}   ```").blocks == (code,)


def test_a_text_in_quotes_may_hold_a_whole_fence():
    turn = parse_turn(f"First:\n```repl\n{JSON}```\nThen:\n```repl\nx = 1\n```\nFINAL(a b)")
    assert turn.blocks == (JSON, "x = 1\n") and turn.final is not None and turn.final.text == "a b"
    assert turn.prose == "First:\nThen:\nFINAL(a b)"


def test_a_text_in_quotes_may_hold_several():
    code = "t = '''\n```\na\n```\nb\n```py\nc\n```\n'''\n"
    assert parse_turn(f"```repl\n{code}```").blocks == (code,)


def test_code_that_is_wrong_ends_at_its_own_fence():
    wrong = 'x = """never closed\n'
    turn = parse_turn(f"```repl\n{wrong}```\nwords\n```repl\ny = 1\n```\n")
    assert turn.blocks == (wrong, "y = 1\n") and turn.prose == "words"


def test_however_many_blocks_are_no_code_few_are_parsed(monkeypatch):
    parsed = []
    monkeypatch.setattr("pylon.rlm.parsing.is_code", lambda code: parsed.append(code))
    turn = parse_turn('```repl\nx = """\n```\n' * 1_000)
    assert len(turn.blocks) == 1_000 and len(parsed) < 20


@given(
    st.lists(
        st.sampled_from(['"""', "'''", "```\n", "```repl\n", "```json\n", "x = 1\n", "  ", "a ", "\n"]), max_size=30
    )
)
def test_whatever_is_found_stands_in_the_reply(parts):
    reply = "".join(parts)
    for code in parse_turn(reply).blocks:
        assert all(line.strip() in reply for line in code.splitlines())


@given(st.lists(st.sampled_from(["a", "```\n", "```json\n", "{}\n", "\n", "b c\n"]), max_size=12).map("".join))
def test_any_text_may_stand_in_quotes(text):
    code = f'x = """\n{text}\n"""\n'
    turn = parse_turn(f"```repl\n{code}```\n")
    assert is_code(code) and (turn.blocks == (code,) or text.count("```\n") > 8)
