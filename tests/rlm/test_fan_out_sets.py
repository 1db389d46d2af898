"""The order of a set hangs on how it was built: a prompt that shows it must be the one that the code will ask."""

import random
from collections import Counter

import pytest

from tests.rlm.plain import run

_KINDS = ["person", "place", "date", "organisation", "event", "amount", "role", "law", "title", "vehicle"]
_STARTS = [_KINDS[start:] + _KINDS[:start] for start in range(len(_KINDS))]
# With whether the order is sure: a set that is written out is built as the compiler likes.
_SHOWN = {
    "constants": ("', '.join({{{constants}}})", False),
    "constants with one that is none": ("', '.join({{{constants}, p}})", False),
    "expressions of constants": ("str({{1 + 1, -1, (2, 'x'), {constants}}})", False),
    "sets put together": ("', '.join({{*first, *second}})", False),
    "a set that exists": ("str(first)", True),
    "a set of a list": ("str(set({constants_list}))", True),
    "a set comprehension": ("', '.join({{k + 'x' for k in {constants_list}}})", True),
    "two sets that exist": ("', '.join(first | second)", True),
    "constants, sorted": ("str(sorted({{{constants}}}))", True),
    "membership in constants": ("str(p in {{{constants}}})", True),
    "how many constants": ("str(len({{{constants}}}))", True),
}


def compare(code):
    """In how many requests it asks, with fan-out and without."""
    together, plain = run(code), run(code, fan_out=False)
    assert (together[0], together[1:3]) == (plain[0], plain[1:3])
    assert Counter(together[3].prompts) == Counter(plain[3].prompts)
    return len(together[3].batches), len(plain[3].batches)


@pytest.mark.parametrize(("shown", "sure"), _SHOWN.values(), ids=_SHOWN)
def test_a_set_in_a_prompt_has_the_order_that_the_code_gives_it(shown, sure):
    for words in _STARTS:
        text = shown.format(constants=", ".join(map(repr, words)), constants_list=words)
        code = (
            f"first, second = set({words[:6]}), set({words[4:]})\nr = []\n"
            f"for p in '123':\n    r.append(llm_query(p + {text}))"
        )
        assert compare(code)[0] == (1 if sure else 3)


def test_a_written_set_whose_words_are_new_to_python_is_shown_as_the_code_shows_it():
    # A set of words that it compiles for the second time may have another order.
    chosen = random.Random(7)
    for _ in range(200):
        words = {"".join(chosen.choices("abcdefgh", k=6)) for _ in range(3)}
        together = run(f"r = []\nfor p in '12':\n    r.append(llm_query(p + str({words})))")
        assert together[0]["r"] == [one.upper() for one in together[3].prompts]


def test_a_loop_over_a_set_of_constants_asks_each_once():
    for words in _STARTS:
        loop = f"for k in {{{', '.join(map(repr, words))}}}:\n        r.append(llm_query(f'{{len(r)}} {{p}} {{k}}'))"
        code = f"r = []\nfor p in '12':\n    {loop}"
        together, plain = run(code), run(code, fan_out=False)
        assert len(together[3].prompts) == len(plain[3].prompts) == 2 * len(words)


@pytest.mark.parametrize("taken", ["seen.discard(x)", "seen.remove(x) if x in seen else None", "seen and seen.pop()"])
@pytest.mark.parametrize("before", [True, False], ids=["before the loop", "in the loop"])
def test_a_set_that_something_was_taken_out_of_is_shown_as_the_code_shows_it(taken, before):
    chosen = random.Random(taken)
    for _ in range(100):
        first, second = (chosen.choices("abcdefghijkl", k=count) for count in (chosen.randint(1, 6), 5))
        emptied = f"for x in {first}: seen.add(x)\nfor x in {first}: {taken}\n"
        loop = f"for c in {second}:\n    seen.add(c)\n    r.append(llm_query(f'{{seen}} {{c}}'))\n"
        if before:
            code = f"seen, r = set(), []\n{emptied}{loop}"
        else:
            inside = "        " + emptied.strip().replace("\n", "\n        ") + "\n    "
            loop = loop.replace("\n", "\n    ")
            code = f"r = []\nfor _ in range(2):\n    seen = set()\n    if True:\n{inside}{loop}"
        compare(code)


@pytest.mark.parametrize(
    "body",
    [
        "    if c in seen:\n        continue\n    seen.add(c)\n    r.append(llm_query(c))",
        "    if c not in seen:\n        r.append(llm_query(f'{len(seen)} {c}'))\n        seen.add(c)",
        "    seen.update([c, 'z'])\n    seen.discard(c)\n    r.append(llm_query(f'{c}{c in seen}{sorted(seen)}'))",
        "    seen |= {c}\n    if c in {'a', 'b'} and len(seen | {c, 'z'}) > 1:\n        r.append(llm_query(c))",
    ],
)
@pytest.mark.parametrize("start", ["set()", "{'x'}", "set('xyz')"])
def test_what_a_set_holds_is_followed_whatever_its_order_is(start, body):
    together, plain = compare(f"seen, r = {start}, []\nfor c in 'abcab':\n{body}")
    assert together == 1 < plain
