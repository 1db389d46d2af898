"""What a root's turn says, however it is written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.rlm.parsing import Final, parse_turn


@pytest.mark.parametrize("word", ["repl", "python", "py", "Python"])
def test_fenced_code_is_found_in_order(word):
    turn = parse_turn(f"First:\n```{word}\na = 1\n```\nthen\n```{word}\nb = 2\n```")
    assert turn.blocks == ("a = 1\n", "b = 2\n")


@pytest.mark.parametrize(
    "reply",
    [
        "```\nprint('\\d')\n```",
        "```repl\nprint('\\d')",
        "FINAL('C:\\dir')",
        "SUBMIT(answer='C:\\dir')",
        "FINAL('a' or '\\d')",
    ],
)
def test_what_a_root_wrote_carelessly_warns_nobody(reply, recwarn):
    parse_turn(reply)
    assert not recwarn.list


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
        ("FINAL(There are three: 1) Ada, 2) Bob, 3) Cy)", Final("There are three: 1) Ada, 2) Bob, 3) Cy")),
        ("FINAL(1) Ada, 2) Bob)\nThat is all (of them).", Final("1) Ada, 2) Bob")),
        ("FINAL(They are:\n1) Ada (the elder)\n2) Bob)\nDone.", Final("They are:\n1) Ada (the elder)\n2) Bob")),
        ("FINAL(They are: a) Ada, b) Bo", Final("They are: a) Ada, b) Bo")),
        ('FINAL("smile :) and go")', Final("smile :) and go")),
        ("FINAL(all is well :) and done)", Final("all is well :) and done")),
        ("FINAL(all is well :))", Final("all is well :)")),
        ("FINAL(all is well :)", Final("all is well :")),
        ("FINAL(it said :( twice) and that is it", Final("it said :( twice")),
        ("FINAL(42) is the answer :)", Final("42")),
        ("FINAL(42) (I am sure)", Final("42")),
        ("FINAL(42) because 1) x and 2) y", Final("42")),
        ("FINAL(A) - the others fail: B) is late, C) is early.", Final("A", "A")),
        ("FINAL(A) since B) is late and so is C)", Final("A", "A")),
        ("FINAL(A) is what I found in chapter three)", Final("A", "A")),
        ("FINAL(B) since A) is late (see 3)", Final("B", "B")),
        ("FINAL(A) is my choice.\n\nB) was wrong.", Final("A", "A")),
        ("FINAL(1) is the answer.\nReasons:\n1) x\n2) y", Final("1")),
        ("FINAL(It is option A) since B) is late.", Final("It is option A")),
        ("FINAL(It is: 1) as I said.\nReasons:\n1) x\n2) y", Final("It is: 1")),
        ("FINAL(Paris), which is what I found in chapter 3)", Final("Paris", "Paris")),
        ("FINAL(Paris) which is what I found in chapter 3)", Final("Paris", "Paris")),
        ("FINAL(See point 3) of the list)\nDone.", Final("See point 3) of the list")),
        ("FINAL(See point 3) of the list\nand 4)", Final("See point 3")),
        ("FINAL(f(x))=3)\nDone.", Final("f(x))=3")),
        ("FINAL(\n1) Ada\n2) Bob\n)\nDone.", Final("1) Ada\n2) Bob")),
        ("FINAL(Found: 1) Ada, 2) Bob) as you see (there).", Final("Found: 1) Ada, 2) Bob")),
        ("FINAL(1) is my answer.\nI am sure (quite).", Final("1")),
        ("**FINAL(42)**.", Final("42")),
        ("FINAL()", Final("")),
        ('FINAL("a\\"b)\\n") and (more)', Final('a"b)\n')),
        ("FINAL('it's so (really)')", Final("it's so (really)")),
        ('FINAL("a" and "b")', Final('"a" and "b"')),
        ("FINAL('a', 'b' (both))", Final("'a', 'b' (both)")),
        ("FINAL('a', 'b')", Final("'a', 'b'")),
        ('FINAL("so "called" names")', Final('so "called" names')),
        ('FINAL("""a "b" c""")', Final('a "b" c')),
        ("FINAL('it's so')", Final("it's so")),
        ('FINAL(")', Final('"')),
        ('SUBMIT(answer="1) a") then', Final("1) a")),
        ('FINAL(x = "y")', Final('x = "y"')),
        ("I will call FINAL(x) later", None),
        ("```repl\nFINAL(3)\n```", None),
    ],
)
def test_answers_in_prose(text, final):
    assert parse_turn(text).final == final


@pytest.mark.parametrize(
    ("text", "blocks", "final"),
    [
        ("<think>no\n```repl\nno\n```\nFINAL(no)</think>\n```repl\nyes\n```", ("yes\n",), None),
        ("no\n```python\nno()\n```\nFINAL(no)\n</think>\n```repl\nyes\n```", ("yes\n",), None),
        ("no\n```python\nwhile it\n</think>\n\nFINAL(yes)", (), Final("yes", "yes")),
        ("I thought about it.</think>\nFINAL(yes)", (), Final("yes", "yes")),
        ("FINAL(no)\n</think> FINAL(yes)", (), Final("yes", "yes")),
        ("<think>never ends\nFINAL(no)", (), None),
        ("<think>a</think><think>b</think>FINAL(yes)", (), Final("yes", "yes")),
        ("<think>a</think>\n```repl\nyes\n```\n</think>", ("yes\n",), None),
        ("I count `<think>` and `</think>`:\n```repl\nyes\n```", ("yes\n",), None),
        ("```repl\na = '<think>'\n<think>b = 1\n```", ("a = '<think>'\n<think>b = 1\n",), None),
        (
            "```repl\na = '''\n<think>\n</think>\n</think>\n'''\n```",
            ("a = '''\n<think>\n</think>\n</think>\n'''\n",),
            None,
        ),
        ("```python\nno\n</think>\n```repl\nyes\n```", ("yes\n",), None),
        ("```repl\nyes\n```\nNow I cut to </think>\n", ("yes\n",), None),
        ("FINAL(yes)\n\nI left out what stands after </think>", (), Final("yes", "yes")),
        ("no\n```repl\nno\n```\n</think> I run:\n```repl\nyes\n```", ("yes\n",), None),
        ("```x``` is the name\nFINAL(yes)", (), Final("yes", "yes")),
        ("````repl\na = '''\n```\n'''\n````", ("a = '''\n```\n'''\n",), None),
    ],
)
def test_thoughts_are_neither_code_nor_answer_and_code_is_whole(text, blocks, final):
    turn = parse_turn(text)
    assert (turn.blocks, turn.final) == (blocks, final)


MASSES = [
    "<think></think>",
    "a</think>",
    "</think>\n",
    "FINAL(1) ",
    "1) ",
    "FINAL(1) a, 2) b\n",
    "FINAL('\\",
    "FINAL(: 1) 2) ",
]


@pytest.mark.parametrize(
    "text",
    [
        *MASSES,
        "```repl\n",
        "```repl\n</think>\n",
        "*",
        "<think>",
        "FINAL(",
        "```repl\nx\n```\n",
        "(",
        "FINAL_VAR(\n",
        "``` \n",
    ],
    ids=repr,
)
def test_megabytes_of_anything_are_read_in_linear_time(text):
    turn = parse_turn(text * (2_000_000 // len(text)))
    assert turn is not None


@pytest.mark.parametrize("row", ['+"a"', ', "a"', ' "a"'])
def test_a_row_of_quotes_however_long_is_an_answer(row):
    text = '"a"' + row * 50_000
    assert parse_turn(f"FINAL({text})").final.text in (text, "a" * 50_001)


@pytest.mark.parametrize("end", ["```", "```repl\nyes\n```", ""])
def test_a_fence_full_of_ends_of_thoughts_is_read_in_linear_time(end):
    code = "</think>\n" * 200_000
    assert parse_turn(f"```repl\n{code}{end}").blocks == {"```": (code,), "": ()}.get(end, ("yes\n",))


@settings(max_examples=60)
@given(st.text(alphabet="`replpython\n FINAL_VAR()x='\"<think>/", max_size=200))
def test_nothing_makes_it_raise(text):
    turn = parse_turn(text)
    assert all(block.strip() for block in turn.blocks)


PLAIN = st.text(alphabet="ab1 2):;(-é\n", max_size=30)


@given(st.text(max_size=60), PLAIN)
def test_an_answer_in_quotes_is_that_text_whatever_stands_in_it_and_behind_it(answer, behind):
    assert parse_turn(f"So:\nFINAL({answer!r})\n{behind}").final == Final(answer)


@given(st.lists(st.text(alphabet="abcé '.-", max_size=8).map("é{}".format), min_size=1, max_size=9))
def test_a_list_in_an_answer_is_whole(points):
    for between in (", ", "\n"):
        text = "Found: " + between.join(f"{number}) {point.strip()}" for number, point in enumerate(points, 1))
        assert parse_turn(f"FINAL({text})\nThat is it.").final.text == text


REASONS = st.lists(
    st.sampled_from([" is it", ", since", " B) is late", " 2) is early", "\nReasons:", " (see 3)", ".\n"])
)


@given(st.sampled_from(["A", "b", "2", "17", "Paris", "x(1)"]), st.sampled_from([" -", ",", "\n", "."]), REASONS)
def test_a_choice_is_that_choice_whatever_reasons_follow(choice, between, reasons):
    assert parse_turn(f"FINAL({choice}){between}{''.join(reasons)} end").final.text == choice


WORDS = st.text(alphabet="abc 123", max_size=6)


@given(st.recursive(WORDS, lambda inner: st.builds("{}({}){}".format, inner, inner, inner), max_leaves=8))
def test_brackets_that_were_opened_close_no_answer(answer):
    assert parse_turn(f"FINAL({answer}) as (you) see").final.text == answer.strip()


CODE = st.sampled_from(
    [
        "x = '<think>'",
        "y = '</think>' ",
        "<think>",
        "</think>",
        " </think>",
        "if a:",
        "  b = '```repl'",
        "",
        "FINAL(1)",
    ]
)


@given(st.lists(CODE, min_size=1, max_size=8))
def test_code_is_what_stands_in_its_fence(lines):
    code = "\n".join(["a = 1", *lines]) + "\n"
    assert parse_turn(f"Now:\n```repl\n{code}```\nand so on").blocks == (code,)


THOUGHTS = st.sampled_from(["```repl\n", "no()\n", "```\n", "FINAL(no)\n", "``x``` no\n", "<th", "\n"])


@given(st.lists(THOUGHTS, max_size=9).map("".join), st.sampled_from(["", "<think>", " <think>\n"]))
def test_nothing_that_was_thought_is_run_or_taken_for_an_answer(thoughts, begin):
    turn = parse_turn(f"{begin}{thoughts}\n</think>\n```repl\nyes()\n```\nFINAL('yes')")
    assert (turn.blocks, turn.final) == (("yes()\n",), Final("yes"))
