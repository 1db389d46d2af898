"""What a rehearsal may cost: a cell is not noticeably slower or larger for it, and pays nothing twice."""

import sys
import tracemalloc

import pytest

from pylon.rlm.repl.guest import concurrency
from pylon.rlm.repl.guest.calls import Calls, Query
from pylon.rlm.repl.guest.fanout import runtime
from pylon.rlm.repl.guest.fanout.rehearsal import Rehearsal
from pylon.rlm.repl.guest.session import Session
from tests.rlm.plain import RecordingPort, run, shout


class Watch:
    """A clock that goes on by so many seconds whenever somebody looks at it."""

    def __init__(self, step_s):
        self.looks = 0
        self._step_s = step_s

    def __call__(self):
        self.looks += 1
        return self.looks * self._step_s


def test_a_rehearsal_ends_by_the_clock_and_what_it_has_found_is_asked():
    code = "r = []\nfor i in range(200):\n    n = 'x'.count('y')\n    r.append(llm_query(f'{i} {n}'))"
    variables, _, _, port = run(code, now=Watch(0.05))
    assert [int(one.split()[0]) for one in port.prompts] == list(range(200)) and len(variables["r"]) == 200
    assert 1 < len(port.batches[0]) < 50 < len(port.batches)


def test_of_a_slow_clock_nothing_is_noticed():
    code = "r = [llm_query(str(i)) for i in range(200)]"
    assert len(run(code, now=Watch(0.0001))[3].batches) == 1


def test_a_copy_ends_by_the_clock_too():
    rows, watch = [{"n": n} for n in range(5000)], Watch(0.01)
    code = "r = [llm_query(f'{i}: {len(str(rows))}') for i in range(4)]"
    assert len(run(code, given={"rows": rows}, now=watch)[3].batches) == 4
    assert watch.looks < 1000


def test_where_a_rehearsal_brings_nothing_it_is_seldom_begun(monkeypatch):
    begun = []

    class Counted(Rehearsal):
        def __init__(self, *arguments):
            begun.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(runtime, "Rehearsal", Counted)
    code = "s = ''\nfor i in range(200):\n    a = llm_query(f'{s[:9]} {i}')\n    s = llm_query(f'm {a[:9]} {i}')"
    assert len(run(code)[3].batches) == 400
    assert len(begun) < 20


def test_beyond_the_calls_that_a_cell_may_make_nothing_is_rehearsed():
    watch = Watch(0.0)
    _, _, _, port = run("r = [llm_query(str(i)) for i in range(20_000)]", limit=5, now=watch)
    assert port.batches == [list("01234")]
    assert watch.looks < 100


def test_of_a_large_container_a_rehearsal_copies_the_parts_that_it_reads():
    rows = [{"text": str(n)} for n in range(20_000)]
    given = {"data": {"rows": rows}}
    loop = "r = []\nfor i in range(0, len(data['rows']), 2000):\n"
    for body in (
        "    r.append(llm_query(data['rows'][i]['text']))",
        "    r.append(llm_query(str(data['rows'][i:i + 2])))",
        "    data['rows'][i]['text'] += '!'\n    r.append(llm_query(data['rows'][i]['text']))",
    ):
        watch = Watch(0.0)
        assert len(run(loop + body, given=given, now=watch)[3].batches) == 1
        assert watch.looks < 1000


def test_a_part_that_is_copied_is_the_same_as_in_the_whole():
    code = (
        "rows = [{'n': n} for n in range(4)]\nr = []\nfor i in range(4):\n    row = rows[i]\n    row['n'] += 10\n"
        "    for one in rows:\n        one['m'] = i\n    r.append(llm_query(str(rows) + str(rows[i - 1]) + str(row)))"
    )
    together, plain = run(code), run(code, fan_out=False)
    assert (together[0], together[3].prompts) == (plain[0], plain[3].prompts)
    assert len(together[3].batches) == 1


def test_what_a_rehearsal_has_made_is_gone_before_the_code_goes_on():
    code = (
        "a = llm_query('1')\nclean = lambda t: t\nparts = text.split(' ')\nb = llm_query(clean('2'))\n"
        "seen.append(held())\ndel parts\nc = llm_query('3')"
    )
    text = "ab cd " * 20_000
    seen = []
    for fan_out in (False, True):
        tracemalloc.start()
        try:
            run(
                code,
                fan_out=fan_out,
                given={"text": text, "seen": seen, "held": lambda: tracemalloc.get_traced_memory()[1]},
            )
        finally:
            tracemalloc.stop()
    plain, fanned = seen
    assert fanned < plain * 1.5


def test_answers_that_a_cell_was_cut_off_before_are_there_for_the_next_one():
    port = RecordingPort(shout)
    calls = Calls(port)
    query = Query(calls, "llm")
    calls.start_cell(10)
    calls.ask_ahead([("llm", None, "a"), ("llm", None, "b"), ("llm", None, "c")])
    calls.start_cell(10, keep=True)
    assert not calls.waiting
    assert query("b") == "B"
    calls.ask_ahead([("llm", None, "a"), ("llm", None, "d")])
    assert [query(one) for one in "ad"] == ["A", "D"]
    assert port.batches == [["a", "b", "c"], ["d"]]
    calls.start_cell(10)
    assert query("c") == "C"
    assert port.batches == [["a", "b", "c"], ["d"], ["c"]]


class SilentPort(RecordingPort):
    """A fake of the way to the host: what is printed goes nowhere."""

    def send(self, message):
        pass


def test_a_name_that_a_cell_has_taken_is_ours_again_in_the_next(monkeypatch):
    monkeypatch.setattr(concurrency, "install", lambda *_, **__: None)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    port = SilentPort(shout)
    session = Session(port, "", threads=True)
    for taken in ("__pylon__ = None", "del globals()['__pylon__']"):
        session.run(taken, 1000, 10)
        assert session.run("print([llm_query(c) for c in 'ab'])", 1000, 10)["stdout"] == "['A', 'B']\n"
    assert port.batches == [["a", "b"]] * 2


@pytest.mark.parametrize(("end", "requests"), [("raise MemoryError", 1), ("raise ValueError", 2), ("pass", 2)])
def test_only_a_cell_that_was_cut_off_leaves_its_answers_to_the_next(monkeypatch, end, requests):
    monkeypatch.setattr(concurrency, "install", lambda *_, **__: None)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    port = SilentPort(shout)
    session = Session(port, "", threads=True)
    session.namespace["ahead"] = lambda: session._calls.ask_ahead([("llm", None, "a")])
    session.run(f"ahead()\n{end}", 1000, 10)
    assert session.run("print(llm_query('a'))", 1000, 10)["stdout"] == "A\n"
    assert len(port.batches) == requests
