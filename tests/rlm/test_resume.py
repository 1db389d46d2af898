"""Runs that are taken up: what was answered is asked of nobody again, and what was spent is spent."""

import asyncio
import fcntl
import os
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pylon.clock import SystemClock
from pylon.errors import UsageError
from pylon.node.home import Home
from pylon.node.rlm.resume import _check, resume
from pylon.rlm import runs
from pylon.rlm.budget import Limits
from pylon.rlm.charges import OpenCharge, Reserved
from pylon.rlm.context import from_value
from pylon.rlm.loop_state import Reason
from pylon.rlm.record import files_of, read_record
from pylon.rlm.recorded_run import DiffersError, RecordedRun
from pylon.rlm.replay import replay
from pylon.rlm.resume_plan import ResumePlan, raised_bounds, resume_plan
from pylon.rlm.rlm import Rlm
from pylon.rlm.root import ScriptedRoot
from pylon.rlm.runs import Run
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import FunctionSubLM, SubFailure
from pylon.rlm.table import call_rows
from pylon.rlm.trajectory import EVENTS, Trajectory
from pylon.rlm.viewer import export_rlm
from pylon.sections import Config
from pylon.unsettled import CameTo
from tests.rlm.fakes import InProcessRepl, Stage, repl
from tests.waiting import until

TURNS = [
    repl("got = llm_query_batched(['a', 'b', 'c', 'd'])\nprint(got)"),
    repl("more = [llm_query(one + '!') for one in got]\nprint(len(more))"),
    repl("deep = rlm_query('task')\nprint(deep)"),
    repl("FINAL(' '.join(more) + deep)"),
]
CHILD = [repl("x = llm_query(context)\nprint(x)"), repl("FINAL(x + llm_query('child ' + x))")]
LIMITS = Limits(msat=1_000_000, calls=50, depth=1)


def root(messages):
    turns = CHILD if "Your task stands" in messages[1].content else TURNS
    return turns[sum(message.role == "assistant" for message in messages)]


class Paid(FunctionSubLM):
    """Each answer costs 10 msat."""

    def __init__(self, answer=lambda prompt: f"<{prompt}>"):
        super().__init__(answer, msat=10, most_msat=20)

    @property
    def prompts(self):
        return sorted(job.prompt for job in self.jobs)


class Again:
    """A run that is taken up."""

    def __init__(
        self, folder, turns=root, sub=None, *, limits=LIMITS, go_on=False, codes=(), settings=None, **sub_options
    ):
        self.folder, self.limits, clock = folder, limits, SystemClock()
        self.root, self.sub = ScriptedRoot(turns), sub or Paid()
        self.recorded = RecordedRun(Run(folder / "run"), go_on=go_on)
        if codes:
            self.recorded.go_back(set(codes))
        self.trajectory = Trajectory.resume(folder / "run", clock)
        self.rlm = Rlm(
            self.root, self.sub, InProcessRepl, self.trajectory, clock, settings=settings, recorded=self.recorded,
            sub_settings=SubSettings(**sub_options),
        )  # fmt: skip

    async def run(self):
        try:
            context = from_value("some text", self.folder / "context")
            return await asyncio.wait_for(self.rlm.run("what?", context, self.limits), 60)
        finally:
            self.trajectory.close()


async def whole(folder, turns=root, sub=None, **options):
    limits = options.pop("limits", LIMITS)
    stage = Stage(folder, turns, sub or Paid(), **options)
    return stage, await stage.run(limits=limits)


def killed(folder, lines, *, torn=b'{"n":7,"ty'):
    """As it is when its process is killed after so many events."""
    events = folder / "run" / EVENTS
    kept = events.read_bytes().splitlines(keepends=True)[:lines]
    events.write_bytes(b"".join(kept) + torn)


def events(folder, kind=None):
    return [event for event in Run(folder / "run").events() if kind in (None, event["type"])]


def told(folder):
    """What a run's events say, without when, how often and by which life."""
    left_out = {"n", "at", "ms", "recorded", "seconds", "wall_s", "latency_ms", "spent", "left"}
    return [
        {name: value for name, value in event.items() if name not in left_out}
        for event in events(folder)
        if event["type"] in ("loop", "turn", "cell", "submitted", "repeated", "returned")
    ]


async def test_a_run_that_was_killed_at_any_moment_goes_on_and_asks_nothing_that_was_answered(tmp_path):
    stage, outcome = await whole(tmp_path)
    everything = (tmp_path / "run" / EVENTS).read_bytes()
    once = stage.sub.prompts
    count = len(everything.splitlines())
    in_full = sorted(map(orjson.dumps, told(tmp_path)))
    for lines in range(1, count):
        for older in (tmp_path / "run").glob("events.*.jsonl"):
            older.unlink()
        (tmp_path / "run" / EVENTS).write_bytes(everything)
        killed(tmp_path, lines)
        before = events(tmp_path)
        answered = {event["call"] for event in before if event["type"] == "returned"}
        lost = {
            event["call"] for event in before if event["type"] == "submitted" and event["kind"] == "llm"
        } - answered
        again = Again(tmp_path)
        came = await again.run()
        assert (came.answer, came.partial) == (outcome.answer, False), lines
        # Each prompt of the run is asked by one of the two, and what was out by both.
        asked = [
            event["prompt"]["preview"] for event in before if event["type"] == "submitted" and event["kind"] == "llm"
        ]
        assert sorted([*asked, *again.sub.prompts]) == sorted([*once, *(
            event["prompt"]["preview"] for event in before
            if event["type"] == "submitted" and event["call"] in lost
        )]), lines  # fmt: skip
        turns = sum(event["type"] == "turn" for event in before)
        assert len(again.root.chats) == len(stage.root.chats) - turns
        final = events(tmp_path, "final")[0]
        spent = stage.events("final")[0]["spent"] if lines == count else final["spent"]
        assert (spent["calls"], spent["turns"]) == (len(once) + 1 + len(lost), len(stage.root.chats)), lines
        assert spent["msat"] == 10 * len(once) == runs.summary(Run(tmp_path / "run"))["paid_msat"], lines
        # The record reads as that of one run.
        assert sorted(map(orjson.dumps, told(tmp_path))) == in_full, lines
        assert [event["n"] for event in events(tmp_path)] == list(range(len(events(tmp_path))))


async def test_what_was_taken_up_is_replayed_listed_and_exported_as_one_run(tmp_path):
    _, outcome = await whole(tmp_path)
    rows = [{**row, "wall_ms": 0, "sent_at": 0} for row in call_rows(Run(tmp_path / "run"))]
    lines = list(export_rlm(Run(tmp_path / "run")))
    killed(tmp_path, len(events(tmp_path)) // 2)
    again = Again(tmp_path)
    await again.run()
    run = Run(tmp_path / "run")
    assert [{**row, "wall_ms": 0, "sent_at": 0, "latency_ms": row["latency_ms"]} for row in call_rows(run)] == rows
    assert [line.get("response") for line in export_rlm(run)] == [line.get("response") for line in lines]
    assert [line.get("prompt") for line in export_rlm(run)] == [line.get("prompt") for line in lines]
    told = runs.summary(run)
    assert (told["state"], told["partial"], told["turns"]) == ("ended", False, 6)
    copy = Trajectory(tmp_path / "copy", SystemClock())
    made = await replay(run, InProcessRepl, copy, SystemClock(), settings=LoopSettings())
    copy.close()
    assert made.same and made.outcome.answer == outcome.answer


async def test_one_that_is_killed_again_while_it_is_taken_up_loses_nothing_that_an_older_process_had(tmp_path):
    stage, outcome = await whole(tmp_path)
    killed(tmp_path, len(events(tmp_path)) - 6)
    had = {event["call"] for event in events(tmp_path, "returned")}
    await Again(tmp_path).run()
    # The second one had written hardly anything of what it took over.
    killed(tmp_path, 3)
    third = Again(tmp_path)
    assert (await third.run()).answer == outcome.answer
    assert len(files_of(tmp_path / "run")) == 3
    assert len(third.sub.jobs) <= len(stage.sub.jobs) - len(had) + 1
    assert read_record(Run(tmp_path / "run")).spent.msat >= 10 * len(stage.sub.jobs)


@pytest.mark.parametrize(
    "code", ["import random\nprint(random.random())", "import itertools\nx = 1 if context else ''"]
)
async def test_where_the_code_does_something_else_it_says_so_and_the_run_stays_as_it_was(tmp_path, code):
    turns = [repl(code), repl("print(llm_query('a'))"), repl("FINAL('x')")]
    if "random" not in code:
        turns[0] = repl("import time\nx = [1, '1'][time.time() > START]\nprint('ok')".replace("START", f"{10**12}"))
    await whole(tmp_path, turns)
    path = tmp_path / "run" / EVENTS
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        if line["type"] == "cell" and "random" not in code:
            for variable in line["variables"]:
                variable["type"] = "str" if variable["name"] == "x" else variable["type"]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    killed(tmp_path, len(lines) - 3)
    was = path.read_bytes()
    again = Again(tmp_path, turns)
    with pytest.raises(DiffersError, match="in turn 1 of loop 0 it ") as caught:
        await again.run()
    assert "--go-on" in caught.value.hint and not again.sub.jobs and not again.root.chats
    assert path.read_bytes() == was and files_of(tmp_path / "run") == [path]
    assert not list((tmp_path / "run").glob("*.part"))
    # Whoever says so goes on from there: the turns that came after it are asked for anew, equal prompts are not.
    on = Again(tmp_path, turns, go_on=True)
    assert (await on.run()).answer == "x"
    assert len(on.root.chats) == 2 and not on.sub.jobs
    assert [event["turn"] for event in events(tmp_path, "cut")] == [1]
    assert events(tmp_path, "final")[0]["spent"]["calls"] == 1


async def test_code_that_asks_something_else_is_told_from_that_and_asks_nobody(tmp_path):
    turns = [repl("import random\nfound = llm_query(str(random.random()))"), repl("FINAL('x')")]
    await whole(tmp_path, turns)
    killed(tmp_path, len(events(tmp_path)) - 3)
    again = Again(tmp_path, turns)
    with pytest.raises(DiffersError, match="asks what it did not ask"):
        await again.run()
    assert not again.sub.jobs


async def test_calls_that_the_budget_refused_are_asked_once_it_is_larger_and_the_root_hears_of_them_then(tmp_path):
    turns = [repl("got = llm_query_batched(['a', 'b', 'c', 'd'])\nprint(got)"), repl("FINAL(got)")]
    _, outcome = await whole(tmp_path, turns, limits=Limits(calls=2, msat=1_000_000))
    assert outcome.partial
    record, more = read_record(Run(tmp_path / "run")), Limits(calls=9, msat=1_000_000)
    assert resume_plan("r", record, more, 20) is ResumePlan.GO_BACK and {*raised_bounds(record, more)} == {"calls"}
    again = Again(tmp_path, turns, limits=more, codes=["budget_calls"])
    came = await again.run()
    assert came.answer == "['<a>', '<b>', '<c>', '<d>']" and not came.partial
    assert again.sub.prompts == ["c", "d"] and len(again.root.chats) == 1
    assert events(tmp_path, "final")[0]["spent"]["calls"] == 4


async def test_a_child_loop_that_the_budget_ended_goes_on_when_it_is_larger(tmp_path):
    def turns(messages):
        if "last turn" in messages[-1].content:
            return "as far as it came"
        if "Your task stands" in messages[1].content:
            said = sum(message.role == "assistant" for message in messages)
            return repl(f"x{said} = llm_query('{said}')") if said < 3 else repl("FINAL(x0 + x1 + x2)")
        return repl("deep = rlm_query('task')\nFINAL(deep)")

    _, outcome = await whole(tmp_path, turns, limits=Limits(calls=50, depth=1, turns=4))
    assert outcome.answer == "as far as it came"
    again = Again(tmp_path, turns, limits=Limits(calls=50, depth=1, turns=40), codes=["budget", "budget_root_turns"])
    came = await again.run()
    assert (came.answer, came.partial) == ("<0><1><2>", False)
    kept = [event for event in events(tmp_path, "turn") if event.get("recorded")]
    assert len(kept) >= 2 and len(again.sub.jobs) < 3


async def test_a_run_out_of_turns_goes_on_with_more_and_its_last_turn_is_not_the_end(tmp_path):
    def turns(messages):
        said = sum(message.role == "assistant" for message in messages)
        if "last turn" in messages[-1].content:
            return "maybe"
        return repl(f"n = {said}\nprint(n)") if said < 3 else "FINAL_VAR(n)"

    await whole(tmp_path, turns, settings=LoopSettings(turns=2))
    assert resume_plan("r", read_record(Run(tmp_path / "run")), LIMITS, 9) is ResumePlan.GO_BACK
    again = Again(tmp_path, turns, settings=LoopSettings(turns=9))
    assert (await again.run()).answer == "2" and len(again.root.chats) == 2


async def test_failures_stand_in_cells_that_the_root_was_told_of_and_are_asked_anew_where_the_run_ended(tmp_path):
    bad = {"b": SubFailure("deadline", "late", 2)}
    turns = [
        repl("got = llm_query_batched(['a', 'b', 'b'])\nprint(got)"),
        repl("FINAL(llm_query('c') + got[1].code)"),
    ]
    await whole(tmp_path, turns, Paid(lambda prompt: bad.get(prompt, prompt)))
    names = [event["type"] for event in events(tmp_path)]
    killed(tmp_path, names.index("shown") + 1)
    again = Again(tmp_path, turns)
    assert (await again.run()).answer == "<c>deadline" and again.sub.prompts == ["c"]


class Charging(Paid):
    """Tells what it may cost, and holds `late` back."""

    found = None
    asks = 0

    async def ask(self, jobs, *, budget_msat=None):
        Charging.asks += 1
        yield Reserved(f"ask {Charging.asks}", self)
        async for came in super().ask(jobs):
            yield came
        yield OpenCharge(0)

    async def came_to(self, names):
        self.asked_after = list(names)
        return dict.fromkeys(names, self.found)


async def test_what_calls_in_flight_may_have_cost_is_asked_for_and_set_aside_where_nobody_knows(tmp_path):
    turns = [repl("a = llm_query('a')\nprint(a)"), repl("FINAL(a + llm_query('b'))")]
    limits = Limits(msat=10_000, calls=9)
    await whole(tmp_path, turns, Charging(), limits=limits)
    first, second = (event["ask"] for event in events(tmp_path, "reserved"))
    assert [event["ask"] for event in events(tmp_path, "settled")] == [first, second]
    at = [(event["type"], event.get("ask")) for event in events(tmp_path)]
    killed(tmp_path, at.index(("reserved", second)) + 1)
    saved = (tmp_path / "run" / EVENTS).read_bytes()
    [ask] = read_record(Run(tmp_path / "run")).open_asks.values()
    # The price, and what it may cost beside.
    assert (ask.most, ask.charged) == (80, 0)
    for found, spent, kept in (
        (None, 20, 80),
        (CameTo(30, 30, True, True), 50, 0),
        (CameTo(30, 60, True, False), 50, 30),
    ):
        for older in (tmp_path / "run").glob("events.*.jsonl"):
            older.unlink()
        (tmp_path / "run" / EVENTS).write_bytes(saved)
        sub = Charging()
        sub.found = found
        again = Again(tmp_path, turns, sub, limits=limits)
        held = []

        def watch(budget, carry=again.rlm._carry_over, held=held):
            carry(budget)
            held.append(budget)

        again.rlm._carry_over = watch
        sub._answer = lambda prompt, sub=sub: slowly(prompt, sub)
        assert (await again.run()).answer == "<a><b>"
        assert sub.asked_after == [second]
        [budget] = held
        assert (budget.spent.msat, budget.kept.msat + budget.reserved.msat) == (spent, kept)
        still = read_record(Run(tmp_path / "run"))
        assert still.spent.msat == spent and len(still.open_asks) == (kept > 0)


async def slowly(prompt, sub):
    await until(lambda: hasattr(sub, "asked_after"))
    await asyncio.sleep(0.05)
    return f"<{prompt}>"


async def test_a_budget_that_was_spent_is_not_there_again(tmp_path):
    turns = [
        repl("a = llm_query_batched(['a', 'b'])\nprint(a)"),
        repl("FINAL([one[:4] for one in llm_query_batched('cde')])"),
    ]
    await whole(tmp_path, turns, limits=Limits(msat=10_000, calls=3))
    names = [event["type"] for event in events(tmp_path)]
    killed(tmp_path, names.index("shown") + 1)
    again = Again(tmp_path, turns, limits=Limits(msat=10_000, calls=3))
    came = await again.run()
    assert came.partial and len(again.sub.jobs) == 1 and events(tmp_path, "final")[0]["spent"]["calls"] == 3


async def test_the_seconds_that_a_run_took_are_taken(tmp_path):
    await whole(tmp_path)
    path = tmp_path / "run" / EVENTS
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()][:-8]
    lines[-1]["at"] = lines[0]["at"] + 70
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    assert round(read_record(Run(tmp_path / "run")).seconds) == 70
    again = Again(tmp_path, limits=Limits(calls=50, depth=1, wall_s=60))
    came = await again.run()
    assert (came.answer, came.reason) == (None, Reason.BUDGET) and not again.sub.jobs and not again.root.chats


@pytest.mark.parametrize(
    ("begun", "says"),
    [
        ({"replay_of": "x"}, "is a replay"),
        ({"shared": True}, "belongs to a set"),
        ({"sub": {"name": "function"}}, "of a program"),
        ({"sandbox": "unsafe"}, "without a sandbox"),
    ],
)
def test_what_cannot_be_taken_up_says_why(tmp_path, begun, says):
    begun = {"replay_of": None, "shared": False, "sub": {"name": "swarm"}, "sandbox": "wasm"} | begun
    with pytest.raises(UsageError, match=says) as refused:
        _check(Run(tmp_path), begun, unsafe=False, own=False)
    if begun["replay_of"]:
        assert "`pylon rlm resume x`" in refused.value.hint
    assert begun.get("shared") or begun["replay_of"] or _check(Run(tmp_path), begun, unsafe=True, own=True) is None


async def test_one_that_is_under_way_is_not_taken_up(tmp_path):
    writing = Trajectory(tmp_path / "run", SystemClock())
    with pytest.raises(UsageError, match="still running"):
        Trajectory.resume(tmp_path / "run", SystemClock())
    writing.close()
    first = Trajectory.resume(tmp_path / "run", SystemClock())
    with pytest.raises(UsageError, match="still running"):
        Trajectory.resume(tmp_path / "run", SystemClock())
    first.close()


@pytest.mark.parametrize("begins", [False, True], ids=["resumed", "begun"])
def test_whoever_only_looks_whether_a_run_is_written_does_not_keep_its_writer_out(tmp_path, monkeypatch, begins):
    path = tmp_path / "run" / EVENTS
    if not begins:
        Trajectory(tmp_path / "run", SystemClock()).close()
    looking = []

    def opened(name, *options, real=os.open):
        if Path(name) == path and not looking:
            # As `Run.live` does.
            looking.append(real(path, os.O_RDONLY | os.O_CREAT, 0o600))
            fcntl.flock(looking[0], fcntl.LOCK_SH)
        return real(name, *options)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(looking[0], fcntl.LOCK_UN))
    writing = (Trajectory if begins else Trajectory.resume)(tmp_path / "run", SystemClock())
    assert looking and Run(tmp_path / "run").live
    writing.close()
    os.close(looking[0])


async def test_what_another_process_writes_until_it_ends_is_read_by_whoever_resumes_the_run(tmp_path, monkeypatch):
    _, outcome = await whole(tmp_path)
    path = tmp_path / "run" / EVENTS
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    lines[0]["strategy"] = "map-reduce"
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    everything = path.read_bytes()
    killed(tmp_path, 10)
    again = Trajectory.resume

    def ends(*given):
        path.write_bytes(everything)
        return again(*given)

    monkeypatch.setattr(Trajectory, "resume", ends)
    report = await resume(Home(tmp_path), Config(), None, Run(tmp_path / "run"), {}, sub=(sub := Paid()))
    assert (report["answer"], report["resumed"], report["state"]) == (outcome.answer, False, "ended")
    assert not sub.jobs and path.read_bytes() == everything
    assert not [*path.parent.glob("*.part"), *path.parent.glob("events.1.*")]


async def test_a_whole_answer_of_a_run_that_recorded_no_hint_is_given_back(tmp_path):
    _, outcome = await whole(tmp_path)
    path = tmp_path / "run" / EVENTS
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    lines[0]["strategy"] = "map-reduce"
    del lines[-1]["hint"]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    report = await resume(Home(tmp_path), Config(), None, Run(tmp_path / "run"), {}, sub=Paid())
    assert (report["answer"], report["hint"]) == (outcome.answer, "")


async def test_what_is_left_to_do_is_decided_by_how_a_run_ended(tmp_path):
    await whole(tmp_path)
    record = read_record(Run(tmp_path / "run"))
    decided = resume_plan("r", record, LIMITS, 20)
    assert decided is ResumePlan.NOTHING_LEFT
    for reason in ("interrupted", "root_failed", "root_silent", "sandbox"):
        record.ended |= {"reason": reason, "partial": True}
        assert resume_plan("r", record, LIMITS, 20) is ResumePlan.CONTINUE
    for reason in ("no_code", "repeated", "program_failed", "final"):
        record.ended |= {"reason": reason}
        with pytest.raises(UsageError, match="has already ended"):
            resume_plan("r", record, LIMITS, 99)
    for reason in ("budget", "turns"):
        record.ended |= {"reason": reason, "hint": "--calls"}
        with pytest.raises(UsageError, match="because of a limit") as caught:
            resume_plan("r", record, LIMITS, 20)
        assert caught.value.hint == "--calls"
        assert resume_plan("r", record, Limits(msat=2_000_000, calls=50, depth=1), 20) is ResumePlan.GO_BACK


async def test_tokens_that_a_provider_overstated_count_no_more_for_a_run_that_is_taken_up(tmp_path):
    class Overstating(Paid):
        async def _one(self, threads, place, job):
            place, answer = await super()._one(threads, place, job)
            return place, replace(answer, prompt_tokens=1_000_000)

    await whole(tmp_path, sub=Overstating())
    assert read_record(Run(tmp_path / "run")).spent.tokens == events(tmp_path, "budget")[-1]["spent"]["tokens"]
