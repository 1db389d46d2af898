"""What the code has changed of Python itself: a rehearsal knows functions by what they are, not by their names."""

import builtins
import json
import re
import textwrap
import warnings
from collections import Counter

import pytest

from tests.rlm.plain import run

_PATCHES = {
    "a function of a module that asks": """
def loads(text):
    print('loading', text)
    return llm_query('inner ' + text)
json.loads = loads
for p in P:
    x = json.loads(p)
    r.append(llm_query('q' + p))""",
    "one that counts": """
real = re.sub
def counting(*given):
    r.append(given)
    return real(*given)
re.sub = counting
for p in P:
    r.append(llm_query(re.sub('x', 'y', p)))""",
    "one that prints": """
real = textwrap.shorten
def shorten(text, width):
    print('short', len(text))
    return real(text, width)
textwrap.shorten = shorten
for p in P:
    r.append(llm_query(textwrap.shorten(p, 4)))""",
    "a method that a function calls": """
def default(self, value):
    r.append('asked')
    return sorted(value)
json.JSONEncoder.default = default
for p in P:
    r.append(llm_query(json.dumps({p})))""",
    "a built-in function": """
real = builtins.len
def counting(of):
    r.append('counted')
    return real(of)
builtins.len = counting
for p in P:
    r.append(llm_query(f'{p} {len(p)}'))""",
    "print": """
real = builtins.print
def asking(*said):
    real(*said)
    r.append(llm_query(said[0]))
builtins.print = asking
for p in P:
    print('said ' + p)
    r.append(llm_query(p))""",
}
_REPLACED = [(json, "loads"), (json.JSONEncoder, "default"), (re, "sub"), (textwrap, "shorten"), (builtins, "len"),
             (builtins, "print")]  # fmt: skip
_START = "import builtins, json, re, textwrap\nP = [str(n) for n in range(4)]\nr = []\n"


@pytest.mark.parametrize("code", _PATCHES.values(), ids=_PATCHES)
def test_a_function_that_the_code_has_replaced_is_not_called_in_a_rehearsal(code, monkeypatch):
    def ran(fan_out):
        with monkeypatch.context() as patched:
            for module, name in _REPLACED:
                patched.setattr(module, name, getattr(module, name))
            return run(_START + code, fan_out=fan_out)

    together, plain = ran(True), ran(False)
    assert (together[0]["r"], together[1:3]) == (plain[0]["r"], plain[1:3])
    assert Counter(together[3].prompts) == Counter(plain[3].prompts)


def test_a_regular_expression_warns_as_without_fan_out(monkeypatch):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(str(message)))
    code = _START + "for p in P:\n    n = len(re.findall('[[a]', p))\n    r.append(llm_query(f'{p}{n}'))"
    told = []
    for fan_out in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            re.purge()
            shown.clear()
            run(code, fan_out=fan_out)
            told.append([one for one in shown if "set" in one])
    assert told[0] == told[1] != []
