"""The order of a set hangs on how it was built: a prompt that shows it must be the one that the code will ask."""

from collections import Counter

import pytest

from tests.rlm.plain import run

_KINDS = ["person", "place", "date", "organisation", "event", "amount", "role", "law", "title", "vehicle"]
_STARTS = [_KINDS[start:] + _KINDS[:start] for start in range(len(_KINDS))]
_SHOWN = {
    "constants": "', '.join({{{constants}}})",
    "constants with one that is none": "', '.join({{{constants}, p}})",
    "expressions of constants": "str({{1 + 1, -1, (2, 'x'), {constants}}})",
    "sets put together": "', '.join({{*first, *second}})",
    "a list and a set put together": "', '.join({{*{constants_list}, *first}})",
    "a set comprehension": "', '.join({{k + 'x' for k in {constants_list}}})",
    "a set changed": "', '.join({{{constants}}} - {{p}} | second)",
}


@pytest.mark.parametrize("shown", _SHOWN.values(), ids=_SHOWN)
def test_a_set_in_a_prompt_has_the_order_that_the_code_gives_it(shown):
    for words in _STARTS:
        text = shown.format(constants=", ".join(map(repr, words)), constants_list=words)
        code = (
            f"first, second = set({words[:6]}), set({words[4:]})\nr = []\n"
            f"for p in '123':\n    r.append(llm_query(p + {text}))"
        )
        together, plain = run(code), run(code, fan_out=False)
        assert together[0]["r"] == plain[0]["r"]
        assert Counter(together[3].prompts) == Counter(plain[3].prompts)
        assert len(together[3].batches) == 1


def test_a_loop_over_a_set_of_constants_asks_each_once():
    for words in _STARTS:
        loop = f"for k in {{{', '.join(map(repr, words))}}}:\n        r.append(llm_query(f'{{len(r)}} {{p}} {{k}}'))"
        code = f"r = []\nfor p in '12':\n    {loop}"
        together, plain = run(code), run(code, fan_out=False)
        assert len(together[3].prompts) == len(plain[3].prompts) == 2 * len(words)
