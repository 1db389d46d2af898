"""What fails by itself before a sub-call is made: a rehearsal does not take it for a success."""

import concurrent.futures
import sys
import warnings

import pytest

from pylon.rlm.repl.guest.concurrency import OneByOnePool
from pylon.rlm.repl.guest.fanout import rewrite
from tests.rlm.plain import run

_PRINTING = "for p in P:\n    print({})\n    r.append(llm_query(p))"
_FAILING = {
    "a number too long to print": _PRINTING.format("10**5000"),
    "one in a list": _PRINTING.format("p, [{'a': (1, 10**5000)}]"),
    "one that is a key": _PRINTING.format("{10**5000: 1}"),
    "a list too deep": "x = []\nfor _ in range(100_000):\n    x = [x]\n" + _PRINTING.format("x"),
    "a separator that is no text": _PRINTING.format("p, sep=1"),
    "an end that is no text": _PRINTING.format("p, end=b''"),
    "an argument that print has not": _PRINTING.format("p, foo=1"),
    "a closed output": "import sys\nsys.stdout.close()\n" + _PRINTING.format("p"),
    "another output": "import io, sys\nsys.stdout = io.StringIO()\nsys.stdout.close()\n" + _PRINTING.format("p"),
    "a pool without workers": "with ThreadPoolExecutor(max_workers=len(P) // 10) as pool:\n"
    "    r = list(pool.map(llm_query, P))",
    "a pool of so many": "with ThreadPoolExecutor('4') as pool:\n    r = list(pool.map(llm_query, P))",
    "a pool with what it has not": "with SubCallPool(workers=4) as pool:\n    r = list(pool.map(llm_query, P))",
    "equal tuples": "for p in P:\n    x = (1, 2)\n    y = (1, 2)\n    if x is not y:\n        llm_query(p)",
}
_SHOWING = "for p in P:\n    {}\n    r.append(llm_query({}).split('0x')[0])"
# What stands in the rehearsal for a value of the code's own is never told.
_SHOWN = {
    "functions in a dict": ("tools = {'up': lambda x: x}", "f'{p} {tools}'.split(' at 0x')[0]"),
    "functions in a list": ("tools = [lambda x: x]", "(p + str(tools)).split(' at 0x')[0]"),
    "a function as it is": ("tool = lambda x: x", "'{} {}'.format(p, tool).split(' at 0x')[0]"),
    "its attribute": ("tool = lambda x: x", "'{} {.__name__}'.format(p, tool)"),
    "a function with %": ("tool = lambda x: x", "('%s %r' % (p, tool)).split(' at 0x')[0]"),
    "a pool": ("tool = ThreadPoolExecutor()", "f'{p} {[tool]}'.split(' at 0x')[0]"),
    "an iterator's address": ("one = [iter(P)]", "f'{p} {one}'"),
    "an iterator's address, as it is": ("one = zip(P, P)", "p + str(one)"),
    "an iterator, asked": ("one = enumerate(P)", "one"),
    "an iterator with %": ("one = reversed(P)", "'%s %s' % (p, one)"),
}
_START = "P = [str(n) for n in range(6)]\nr = []\n"


@pytest.mark.parametrize("code", _FAILING.values(), ids=_FAILING)
def test_a_call_that_the_code_does_not_come_to_is_not_made(code):
    given = {"SubCallPool": concurrent.futures.ThreadPoolExecutor}
    together, plain = run(_START + code, given=given), run(_START + code, given=given, fan_out=False)
    assert together[1:3] == plain[1:3]
    assert together[3].prompts == plain[3].prompts == []


@pytest.mark.parametrize(("made", "prompt"), _SHOWN.values(), ids=_SHOWN)
def test_what_a_rehearsal_has_made_is_not_told(made, prompt):
    together, plain = (run(_START + _SHOWING.format(made, prompt), fan_out=fan_out) for fan_out in (True, False))
    assert len(together[3].prompts) == len(plain[3].prompts) == 6
    if "iter" not in made and "P)" not in made:
        assert together[3].prompts == plain[3].prompts


@pytest.mark.parametrize(
    "printed",
    ["p, 10**600, 1.5, None", "r, {p: [(1, 'a')]}, {p}", "p, sep='', end='', flush=True", "f'{p}', len(r), end=p"],
)
def test_what_prints_in_any_case_goes_out_at_once(printed):
    together, plain = run(_START + _PRINTING.format(printed)), run(_START + _PRINTING.format(printed), fan_out=False)
    assert (together[0], together[1]) == (plain[0], plain[1])
    assert len(together[3].batches) == 1


@pytest.mark.parametrize("workers", ["", "3", "max_workers=3", "max_workers=None"])
def test_a_pool_that_can_be_made_is_gone_into(workers):
    helper = "def ask(p):\n    return llm_query(p)\n"
    code = f"{helper}with ThreadPoolExecutor({workers}) as pool:\n    r = list(pool.map(ask, P))"
    assert len(run(_START + code)[3].batches) == 1


@pytest.mark.parametrize(("workers", "error"), [(0, ValueError), (-1, ValueError), ("4", TypeError)])
def test_a_pool_without_threads_takes_what_one_with_threads_does(workers, error):
    for kind in (concurrent.futures.ThreadPoolExecutor, OneByOnePool):
        with pytest.raises(error):
            kind(max_workers=workers)


def test_a_warning_is_shown_as_often_as_without_fan_out(monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: sys.stderr.write(f"{message}\n"))
    code = (
        "import warnings\nwarnings.resetwarnings()\nwarnings.simplefilter('default')\n"
        "for p in P:\n    warnings.warn('careful')\n"
        "    a = llm_query(p)\n    r.append(llm_query(a + '!'))"
    )
    together, plain = run(_START + code), run(_START + code, fan_out=False)
    assert together[1].count("careful") == plain[1].count("careful") == 1


def test_rewriting_looks_at_each_statement_a_few_times_however_many_there_are(monkeypatch):
    looked = []

    class Counted(dict):
        def __getitem__(self, key):
            looked.append(key)
            return super().__getitem__(key)

    class Rewriter(rewrite._Rewriter):
        def __init__(self, twins, *rest):
            super().__init__(Counted(twins), *rest)

    monkeypatch.setattr(rewrite, "_Rewriter", Rewriter)
    run("\n".join(f"v{n} = {n}" for n in range(300)) + "\nr = [llm_query(str(n)) for n in range(3)]")
    assert len(looked) < 1500
