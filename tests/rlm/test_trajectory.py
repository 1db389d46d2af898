"""Trajectories: what is written, that it survives, and that others can read it."""

import asyncio
import csv
import errno
import os
import signal
import sys

import orjson
import pytest

from pylon import __version__
from pylon.clock import SystemClock
from pylon.errors import UsageError
from pylon.rlm import runs, trajectory
from pylon.rlm.budget import Limits
from pylon.rlm.progress import Tally
from pylon.rlm.repl.protocol import CellLimits
from pylon.rlm.replay import replay
from pylon.rlm.runs import Run, summary
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import FunctionSubLM, SubAnswer, SubFailure
from pylon.rlm.table import COLUMNS, as_csv, call_rows
from pylon.rlm.trajectory import EVENTS, Trajectory, TrajectoryError
from pylon.rlm.viewer import export_rlm
from tests.rlm.fakes import InProcessRepl, Stage, repl

TURNS = [
    repl("parts = [context[:2], context[2:]]\ngot = llm_query_batched(parts)\nprint(got)"),
    repl("deep = rlm_query('ab')\nprint(deep, isinstance(got[1], SubCallError))"),
    repl("FINAL(got[0] + deep)"),
]


def root(messages):
    if "Your task stands" in messages[1].content:
        return repl("FINAL(llm_query(context) + '!')")
    return TURNS[sum(message.role == "assistant" for message in messages)]


def answer(prompt):
    return SubFailure("deadline", "late", attempts=2) if prompt == "cd" else prompt.upper()


@pytest.fixture
async def stage(tmp_path):
    stage = Stage(tmp_path, root, answer)
    outcome = await stage.run(question="which?", context="abcd", limits=Limits(depth=1, calls=50))
    assert outcome.answer == "ABAB!"
    return stage


async def test_everything_that_happened_stands_in_order_with_its_texts(stage):
    kinds = [event["type"] for event in stage.events()]
    assert kinds[0] == "run" and kinds[1] == "loop" and kinds[-1] == "final"
    assert [event["n"] for event in stage.events()] == list(range(len(kinds)))
    begun = stage.events("run")[0]
    assert stage.text(begun["question"]) == "which?" and begun["context"]["chars"] == 4
    sent = {event["call"]: event for event in stage.events("submitted")}
    back = {event["call"]: event for event in stage.events("returned")}
    assert set(sent) <= set(back)
    assert back["0/c1.1"]["code"] == "deadline" and back["0/c1.1"]["attempts"] == 2
    assert sent["0/c2.0"]["kind"] == "rlm" and stage.text(back["0/c2.0"]["text"]) == "AB!"
    for name in ("provider", "model", "msat", "queue_ms", "run_ms", "latency_ms", "verified"):
        assert name in back["0/c1.0"]
    assert stage.events("final")[0]["spent"]["calls"] == len(sent)


async def test_files_are_for_their_owner_alone(stage):
    for path in [stage.folder / "run", *(stage.folder / "run").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_torn_last_line_is_left_out(stage):
    events = stage.events()
    path = stage.folder / "run" / EVENTS
    path.write_bytes(path.read_bytes()[:-7])
    assert stage.events() == events[:-1]
    assert runs.summary(Run(stage.folder / "run"))["state"] == "died"


async def test_the_export_keeps_the_viewers_rules(stage):
    lines = [orjson.loads(orjson.dumps(line)) for line in export_rlm(Run(stage.folder / "run"))]
    assert [line["type"] for line in lines] == ["metadata"] + ["iteration"] * 3
    metadata, *iterations = lines
    assert {"root_model", "max_depth", "max_iterations", "backend", "environment_type"} <= set(metadata)
    for number, line in enumerate(iterations, 1):
        assert line["iteration"] == number
        assert all(set(message) == {"role", "content"} for message in line["prompt"])
        assert isinstance(line["iteration_time"], float) and isinstance(line["response"], str)
        for block in line["code_blocks"]:
            result = block["result"]
            assert type(result["execution_time"]) in (int, float)
            assert all(isinstance(value, str) and len(value) < 500 for value in result["locals"].values())
            assert isinstance(result["stdout"], str) and isinstance(result["stderr"], str)
            for call in result["rlm_calls"]:
                assert type(call["execution_time"]) in (int, float)
                assert type(call["prompt_tokens"]) is int and type(call["completion_tokens"]) is int
                assert isinstance(call["prompt"], str) and isinstance(call["response"], str)
    assert [len(line["code_blocks"][0]["result"]["rlm_calls"]) for line in iterations] == [2, 1, 0]
    assert [line["final_answer"] for line in iterations] == [None, None, "ABAB!"]
    # Each turn's prompt is what the root saw: the chat grows by two messages a turn.
    assert [len(line["prompt"]) for line in iterations] == [2, 4, 6]


async def test_the_engines_own_types_take_the_exported_calls(stage):
    from rlm.core.types import RLMChatCompletion, UsageSummary

    for line in export_rlm(Run(stage.folder / "run")):
        for block in line.get("code_blocks", ()):
            for call in block["result"]["rlm_calls"]:
                made = RLMChatCompletion.from_dict({**call, "usage_summary": {}})
                assert made.response == call["response"]
                assert UsageSummary.from_dict(call["usage_summary"]).total_input_tokens == call["prompt_tokens"]


async def test_a_replay_asks_no_model_and_comes_to_the_same_answer(stage, tmp_path):
    asked = len(stage.sub.jobs)
    again = Trajectory(tmp_path / "again", SystemClock())
    made = await replay(Run(stage.folder / "run"), InProcessRepl, again, SystemClock(), settings=LoopSettings())
    again.close()
    assert made.same and made.outcome.answer == "ABAB!" and not made.outcome.partial
    assert len(stage.sub.jobs) == asked
    old = [event["code"]["sha256"] for event in stage.events("cell")]
    assert [event["code"]["sha256"] for event in Run(tmp_path / "again").events() if event["type"] == "cell"] == old


async def test_a_replay_of_a_run_that_never_ended_has_nothing_to_compare_with(stage, tmp_path):
    events = stage.folder / "run" / EVENTS
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]))
    again = Trajectory(tmp_path / "again", SystemClock())
    made = await replay(Run(stage.folder / "run"), InProcessRepl, again, SystemClock(), settings=LoopSettings())
    assert (made.outcome.answer, made.recorded, made.same, made.ended) == ("ABAB!", None, False, False)
    # Nor is it the same when neither of them has an answer.
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:2]))
    again = Trajectory(tmp_path / "once more", SystemClock())
    made = await replay(Run(stage.folder / "run"), InProcessRepl, again, SystemClock(), settings=LoopSettings())
    assert (made.outcome.answer, made.recorded, made.same, made.ended) == (None, None, False, False)


async def test_a_run_of_before_is_still_shown_replayed_and_exported(stage, tmp_path):
    """What runs did not say yet is not missed: answers' ends and weights, the sandbox, the root's temperature."""
    events = stage.folder / "run" / EVENTS
    lines = [orjson.loads(line) for line in events.read_bytes().splitlines()]
    for line in lines:
        for name in ("finish", "sha256", "hint", "version", "sandbox", *["cell"][: line["type"] == "run"]):
            line.pop(name, None)
    lines[0]["root"] = {name: lines[0]["root"][name] for name in ("name", "context_tokens")}
    del lines[0]["sub"]["weights"], lines[0]["sub"]["seed"]
    events.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    old = Run(stage.folder / "run")
    again = Trajectory(tmp_path / "again", SystemClock())
    made = await replay(old, InProcessRepl, again, SystemClock(), settings=LoopSettings())
    assert made.same and made.outcome.answer == "ABAB!"
    assert next(export_rlm(old))["type"] == "metadata"
    assert summary(old)["state"] == "ended" and {row["finish"] for row in call_rows(old)} == {None}


async def test_the_run_event_says_what_must_be_known_to_run_it_again(stage):
    begun = stage.events("run")[0]
    assert begun["version"] == __version__ and begun["root"]["tier"] == "large"
    assert begun["root"]["max_tokens"] == 4_096 and begun["cell"]["seconds"] == 60.0
    assert {"temperature", "max_tokens", "seed", "weights", "models"} <= set(begun["sub"])


async def test_the_export_has_every_call_in_the_codes_order_and_the_tokens_inside_of_loops(tmp_path):
    def answer(prompt):
        # They come back the other way round.
        return asyncio.sleep((12 - len(prompt)) / 100, "a longer answer")

    def root(messages):
        if "Your task stands" in messages[1].content:
            return repl("FINAL(llm_query(context))")
        return repl("a = llm_query_batched(['x' * n for n in range(1, 13)] + ['x'])\nb = rlm_query('deep')\nFINAL(b)")

    stage = Stage(tmp_path, root, answer)
    await stage.run(limits=Limits(depth=1))
    line = list(export_rlm(Run(tmp_path / "run")))[1]
    assert line["prompt_tokens"] > 0 and line["completion_tokens"] > 0
    calls = line["code_blocks"][0]["result"]["rlm_calls"]
    assert [call["prompt"] for call in calls] == ["x" * n for n in range(1, 13)] + ["x", "deep"]
    assert calls[12]["repeated"] and calls[12]["response"] == "a longer answer" and calls[12]["prompt_tokens"] == 0
    inside = [event for event in stage.events() if event.get("loop") == "0/c2.0"]
    used = [event for event in inside if event["type"] in ("turn", "returned")]
    assert calls[13]["prompt_tokens"] == sum(event["prompt_tokens"] for event in used) > 0
    assert calls[13]["completion_tokens"] == sum(event["completion_tokens"] for event in used)


async def test_a_repeated_call_shows_what_its_own_model_answered(tmp_path):
    said = iter(["of a", "of b"])
    code = "\n".join(f"got = llm_query('same', model={model!r})" for model in "aba")
    stage = Stage(tmp_path, [repl(f"{code}\nFINAL(got)")], lambda _: next(said))
    assert (await stage.run()).answer == "of a"
    run = Run(tmp_path / "run")
    calls = list(export_rlm(run))[1]["code_blocks"][0]["result"]["rlm_calls"]
    assert [call["response"] for call in calls] == ["of a", "of b", "of a"]
    assert [row["asked_model"] for row in call_rows(run)] == ["a", "b", "a"]


async def test_a_repeated_call_of_before_shows_the_last_outcome_of_its_prompt(tmp_path):
    stage = Stage(tmp_path, [repl("llm_query('same')\nFINAL(llm_query('same'))")], lambda _: "one")
    await stage.run()
    events = tmp_path / "run" / EVENTS
    lines = [orjson.loads(line) for line in events.read_bytes().splitlines()]
    for line in lines:
        if line["type"] == "repeated":
            del line["model"]
    events.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    calls = list(export_rlm(Run(tmp_path / "run")))[1]["code_blocks"][0]["result"]["rlm_calls"]
    assert [call["response"] for call in calls] == ["one", "one"]


async def test_the_table_has_a_row_a_call_whatever_became_of_it(stage):
    run = Run(stage.folder / "run")
    rows = call_rows(run)
    assert [(row["call"], row["state"], row["code"]) for row in rows] == [
        ("0/c1.0", "answered", None),
        ("0/c1.1", "failed", "deadline"),
        ("0/c2.0", "answered", None),
        ("0/c2.0/c1.0", "repeated", None),
    ]
    assert rows[0]["model"] == "function" and rows[0]["wall_ms"] >= 0 and rows[0]["answer_chars"] == 2
    assert rows[2]["kind"] == "rlm" and rows[3]["loop"] == "0/c2.0"
    read = list(csv.DictReader("".join(as_csv(rows)).splitlines()))
    assert [row["call"] for row in read] == [row["call"] for row in rows] and tuple(read[0]) == COLUMNS
    assert read[1]["model"] == "" and read[0]["verified"] == "none"
    assert sum(int(row["paid_msat"] or 0) for row in read) == summary(run)["paid_msat"]
    # Strangers name models, and a spreadsheet runs what begins like this.
    for name in ("=1+1", "+1", "-1", "@SUM(1)", "\t=1"):
        assert next(csv.DictReader("".join(as_csv([{**rows[0], "model": name}])).splitlines()))["model"] == f"'{name}"
    assert next(csv.DictReader("".join(as_csv([{**rows[0], "seed": -1}])).splitlines()))["seed"] == "-1"


async def test_a_call_that_was_refused_and_one_that_was_lost_are_rows_too(tmp_path):
    stage = Stage(tmp_path, [repl("a = llm_query_batched(['p', 'q'])\nFINAL('x')")])
    await stage.run(limits=Limits(calls=1))
    events = tmp_path / "run" / EVENTS
    lines = [line for line in events.read_bytes().splitlines(keepends=True) if b"<p>" not in line]
    events.write_bytes(b"".join(line for line in lines if b'"final"' not in line))
    assert [row["state"] for row in call_rows(Run(tmp_path / "run"))] == ["lost", "refused"]


async def test_a_replay_works_on_the_context_that_was_kept_with_its_run(stage, tmp_path):
    given = tmp_path / "context"
    kept = stage.events("run")[0]["context"]["files"][0]["sha256"]
    given.rename(stage.folder / "run" / "blobs" / kept)
    given.write_text("another text")
    again = Trajectory(tmp_path / "again", SystemClock())
    made = await replay(Run(stage.folder / "run"), InProcessRepl, again, SystemClock(), settings=LoopSettings())
    assert made.same


async def test_a_replay_without_its_context_says_so(stage, tmp_path):
    (tmp_path / "context").write_text("changed")
    with pytest.raises(UsageError, match="no longer what run"):
        await replay(
            Run(stage.folder / "run"), InProcessRepl, Trajectory(tmp_path / "x", SystemClock()), SystemClock(),
            settings=LoopSettings(),
        )  # fmt: skip


async def test_a_replay_of_a_run_that_ran_out_of_turns_takes_its_last_turn_too(tmp_path):
    def turns(messages):
        return "maybe 3" if "last turn" in messages[-1].content else repl(f"print({len(messages)})")

    stage = Stage(tmp_path, turns, settings=LoopSettings(turns=2))
    await stage.run()
    again = Trajectory(tmp_path / "again", SystemClock())
    made = await replay(Run(tmp_path / "run"), InProcessRepl, again, SystemClock(), settings=LoopSettings())
    again.close()
    assert made.same and made.outcome.answer == "maybe 3"


async def replayed(tmp_path, **settings):
    again = Trajectory(tmp_path / "again", SystemClock())
    made = await replay(Run(tmp_path / "run"), InProcessRepl, again, SystemClock(), settings=LoopSettings(**settings))
    again.close()
    return made


async def test_a_replay_gives_equal_prompts_their_answers_in_the_order_in_which_they_were_asked(tmp_path):
    """At temperatures above 0 each is drawn, and the first that is asked may be the last that is answered."""
    back, drawn = asyncio.Event(), iter(range(9))

    async def draw(prompt):
        number = next(drawn)
        await (asyncio.sleep(0) if number == 3 else back.wait())
        back.set()
        return f"draw {number}"

    turns = [repl("FINAL(' '.join(llm_query_batched(['vote'] * 4)))")]
    stage = Stage(tmp_path, turns, draw, sub_settings=SubSettings(temperature=0.8))
    outcome = await stage.run()
    returned = [event["call"] for event in stage.events("returned")]
    assert outcome.answer == "draw 0 draw 1 draw 2 draw 3" and returned[0] == "0/c1.3"
    made = await replayed(tmp_path)
    assert made.same, made.outcome.answer


async def test_a_replay_tells_the_models_apart_that_a_prompt_went_to_and_what_was_refused(tmp_path):
    class ByModel(FunctionSubLM):
        async def ask(self, jobs, *, budget_msat=None):
            for place, job in enumerate(jobs):
                yield place, SubAnswer(f"{job.model} says", "p", str(job.model))

    code = "ask = [llm_query('x', m) for m in ('b', 'a')] + [llm_query('x', m).code for m in ('c', 'c')]\nFINAL(ask)"
    stage = Stage(tmp_path, [repl(code)], ByModel(str))
    outcome = await stage.run(limits=Limits(calls=2))
    assert outcome.answer == "['b says', 'a says', 'budget_calls', 'budget_calls']"
    assert (await replayed(tmp_path)).outcome.answer == outcome.answer


async def test_a_replay_has_the_turns_and_the_limits_of_a_cell_that_its_run_had(tmp_path):
    limits = CellLimits(seconds=7.0, calls=77)
    turns = [repl("x = 1"), repl("x = 2"), repl("FINAL(x)")]
    await Stage(tmp_path, turns, settings=LoopSettings(turns=3, cell=limits)).run()
    given = []

    class Watched(InProcessRepl):
        async def open(self, context, limits, on_calls):
            given.append(limits)
            await super().open(context, limits, on_calls)

    again = Trajectory(tmp_path / "again", SystemClock())
    settings = LoopSettings(turns=2)
    made = await replay(Run(tmp_path / "run"), Watched, again, SystemClock(), settings=settings)
    again.close()
    assert made.same and given == [limits]


async def test_a_replay_of_a_run_whose_cells_had_limits_that_are_not_known_here_says_which(stage, tmp_path):
    events = stage.folder / "run" / EVENTS
    lines = [orjson.loads(line) for line in events.read_bytes().splitlines()]
    lines[0]["cell"] |= {"stack_bytes": 7, "files": 0}
    events.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    with pytest.raises(UsageError, match="does not know: files, stack_bytes") as caught:
        await replayed(tmp_path)
    assert __version__ in caught.value.hint


WRITER = """
import sys, time
from pathlib import Path
from pylon import __version__
from pylon.clock import SystemClock
from pylon.rlm.trajectory import Trajectory
trajectory = Trajectory(Path(sys.argv[1]), SystemClock())
trajectory.write("run", question=trajectory.text("q"), strategy="rlm")
for n in range(10**9):
    trajectory.write("returned", call=str(n), prompt=trajectory.text("x" * (n % 500)), msat=7)
    if n == 200:
        print("well under way", flush=True)
"""


async def test_kill_9_leaves_every_event_before_it_and_the_run_is_seen_to_have_died(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path / "run"), stdout=asyncio.subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    await process.stdout.readline()
    run = Run(tmp_path / "run")
    assert run.live and runs.summary(run)["state"] == "running"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    events = list(run.events())
    assert len(events) > 200 and [event["n"] for event in events] == list(range(len(events)))
    assert not run.live and runs.summary(run)["state"] == "died"
    for event in events[1:]:
        assert run.text(event["prompt"]) == "x" * (int(event["call"]) % 500)


async def test_a_run_is_followed_while_it_goes_on_and_the_following_ends_with_it(tmp_path):
    trajectory = Trajectory(tmp_path / "run", SystemClock())
    trajectory.write("run")
    seen = asyncio.create_task(asyncio.to_thread(lambda: [e["type"] for e in Run(tmp_path / "run").follow()]))
    await asyncio.sleep(0.05)
    trajectory.write("turn")
    await asyncio.sleep(0.3)
    assert not seen.done()
    trajectory.write("final")
    trajectory.close()
    assert await asyncio.wait_for(seen, 20) == ["run", "turn", "final"]


async def test_old_runs_go_and_runs_under_way_stay(tmp_path):
    live = Trajectory(runs.new_run(tmp_path, 1.0), SystemClock())
    for second in range(2, 7):
        Trajectory(runs.new_run(tmp_path, float(second)), SystemClock()).close()
    assert runs.prune(tmp_path, keep=2) == 3
    assert len(runs.run_ids(tmp_path)) == 3 and live.id in runs.run_ids(tmp_path)
    live.close()


async def test_runs_are_found_by_the_start_of_their_id(tmp_path):
    with pytest.raises(UsageError, match="there are no stored runs yet"):
        runs.find_run(tmp_path, "last")
    made = [runs.new_run(tmp_path, second) for second in (1e9, 2e9)]
    for folder in made:
        Trajectory(folder, SystemClock()).close()
    assert runs.find_run(tmp_path, "last").id == made[1].name
    assert runs.find_run(tmp_path, "2001").id == made[0].name
    with pytest.raises(UsageError, match="several"):
        runs.find_run(tmp_path, "20")
    with pytest.raises(UsageError, match="no run"):
        runs.find_run(tmp_path, "1999")


def test_what_is_written_after_the_end_gets_into_no_other_file(tmp_path):
    trajectory = Trajectory(tmp_path / "run", SystemClock())
    trajectory.close()
    # The system gives the next file that is opened the number of the one that was closed.
    with (tmp_path / "other").open("wb"):
        with pytest.raises(TrajectoryError, match="Bad file descriptor"):
            trajectory.write("late")
    assert not (tmp_path / "other").read_bytes()


def test_nothing_follows_a_line_that_a_full_disk_cut_and_no_text_counts_as_kept_that_is_not(tmp_path, monkeypatch):
    written = Trajectory(tmp_path / "run", SystemClock())
    written.write("first")

    def cut(file, data):
        os.write(file, data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(trajectory, "_write_all", cut)
        with pytest.raises(TrajectoryError, match="No space left"):
            written.text("a text")
    for late in (lambda: written.text("a text"), lambda: written.write("second")):
        with pytest.raises(TrajectoryError, match="No space left"):
            late()
    written.close()
    assert [event["type"] for event in Run(tmp_path / "run").events()] == ["first"] and written.count == 1


def test_a_run_that_cannot_even_begin_says_why_and_what_to_do(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(TrajectoryError, match="run x cannot be written: Not a directory") as caught:
        Trajectory(tmp_path / "runs" / "x", SystemClock())
    assert "Free some space" in caught.value.hint


def test_a_text_with_lone_surrogates_is_kept_and_its_event_written(tmp_path):
    trajectory = Trajectory(tmp_path / "run", SystemClock())
    trajectory.write("answer", text=trajectory.text("a\ud800b"))
    trajectory.close()
    [event] = Run(tmp_path / "run").events()
    assert event["text"]["preview"] == "a?b" == Run(tmp_path / "run").text(event["text"])


def test_a_list_counts_what_the_root_cost_also_of_a_run_that_died(tmp_path):
    trajectory, tally = Trajectory(tmp_path / "run", SystemClock()), Tally()
    ref = trajectory.text("text")
    trajectory.write("turn", loop="0", turn=1, msat=700, prompt_tokens=9, completion_tokens=2, reply=ref)
    trajectory.write("submitted", loop="0", turn=1, call="0/c1.0", kind="llm", model=None, prompt=ref)
    trajectory.write(
        "returned", loop="0", turn=1, call="0/c1.0", msat=31, provider="ab" * 32, model="m", text=ref, prompt=ref
    )
    trajectory.close()
    run = Run(tmp_path / "run")
    for event in run.events():
        tally.add(event)
    row = summary(run)
    assert (row["state"], row["turns"], row["calls"], row["paid_msat"]) == ("died", 1, 1, 731) and tally.msat == 731


async def test_whoever_follows_a_run_that_is_taken_up_sees_what_the_new_process_does(tmp_path):
    first = Trajectory(tmp_path / "run", SystemClock())
    begun = [first.write("run"), first.write("loop", loop="0")]
    first.close()
    again = Trajectory.resume(tmp_path / "run", SystemClock())
    follower = Run(tmp_path / "run").follow()
    seen = [await asyncio.to_thread(next, follower) for _ in begun]
    again.write("run", before={})
    again.copy(begun[1])
    rest = asyncio.create_task(asyncio.to_thread(list, follower))
    again.write("turn", loop="0", turn=1)
    again.write("final")
    again.close()
    seen += await asyncio.wait_for(rest, 20)
    assert [event["type"] for event in seen] == ["run", "loop", "run", "turn", "final"]
