"""What `pylon map` says of itself: how far it is, how somebody ended it, and what came of a full disk."""

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, Task, TextColumn

from pylon.cli import map_report, mapping
from pylon.cli.estimate_rows import estimated
from pylon.cli.output import err
from pylon.errors import JobsFailedError, UsageError
from pylon.node.calls.params import MOST_JOBS, job_list
from pylon.relay.server import RelayServer
from tests.node import programs
from tests.node.test_map_resume import answered
from tests.waiting import until

EVENT = {"loading": 0, "done": 3, "failed": 1, "paid_msat": 2_000, "in_flight": 4, "providers": 1}
RESULT = {
    "jobs": 4, "answered": 4, "wall_s": 0.5, "p50_ms": 1, "p99_ms": 2, "checked": 0, "paid_msat": 0,
    "beside_msat": 0, "providers": {"a": 4}, "resumed": False,
}  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_bar_leaves_room_for_what_ctrl_c_echoes(monkeypatch, width):
    console = Console(width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(map_report, "err", console)
    bar = map_report._Bar(TextColumn("{task.description}"), BarColumn(None), console=console, auto_refresh=False)
    bar.add_task("words " * 4, total=9, completed=9)
    with console.capture() as seen:
        console.print(bar.get_renderable())
    lines = seen.get().splitlines()
    assert lines and max(len(line.rstrip()) for line in lines) <= width - 2


async def test_an_interrupted_map_says_what_is_done_and_the_command_that_goes_on(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        slow = programs.environment(tmp_path / "serves", relay.url, PYLON_INFERENCE__INSTANT_DELAY_S="0.5")
        env = programs.environment(tmp_path / "asks", relay.url)
        for one in (slow, env):
            await programs.run("init", env=one)
        await programs.start(slow, stack)
        file, database = tmp_path / "my prompts.txt", tmp_path / "asks" / "play" / "pylon.db"
        file.write_text("".join(f"line {n}\n" for n in range(2_000)))
        process = await programs.spawn("map", str(file), env=env, stderr=asyncio.subprocess.PIPE)
        stack.push_async_callback(process.communicate)
        await until(lambda: process.returncode is not None or answered(database), within_s=60)
        process.send_signal(signal.SIGINT)
        printed, told = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, printed) == (130, b"")
        assert " of 2,000 answered" in told.decode() and "spent" in told.decode()
        assert f"`pylon map '{file}' --resume`" in told.decode()


def test_a_map_that_was_ended_before_it_asked_says_so_and_one_that_was_taken_up_how_to_go_on(monkeypatch):
    monkeypatch.setattr("sys.argv", ["pylon", "map", "p.txt", "--resume"])
    before = mapping._interrupted("", resumed=False)
    assert "before any prompt was sent" in str(before) and not before.hint
    again = mapping._interrupted("", resumed=True)
    assert str(again) == "interrupted: before any more answers arrived"
    assert "`pylon map p.txt --resume` continues" in again.hint


def test_where_nobody_watches_a_line_now_and_then_says_how_far_it_is(monkeypatch):
    now, lines = [100.0], []
    monkeypatch.setattr(map_report.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(err, "print", lines.append)
    progress, quiet = (map_report.MapProgress(10, "play sat", quiet=quiet) for quiet in (False, True))
    for now[0] in (101.0, 110.0, 111.0, 120.0):
        progress.update(EVENT)
        quiet.update(EVENT)
    assert lines == ["2 of 10 answered, 1 failed, 2 play sat spent, 4 in flight"] * 2


def test_a_map_of_less_than_one_answer_a_second_has_a_speed_too(monkeypatch):
    monkeypatch.setattr(Task, "speed", 0.25)
    progress = map_report.MapProgress(10, "play sat", quiet=True)
    progress.update({**EVENT, "in_flight": 4_000})
    assert progress._bar.tasks[0].description.startswith("0.25/s, 2 play sat, 4,000 in flight, ")


@pytest.mark.parametrize("resume", [False, True])
def test_whoever_resumes_means_a_run_that_is_there(tmp_path, monkeypatch, resume):
    file, asked = tmp_path / "p.txt", []
    file.write_text("one\n")
    monkeypatch.setattr(mapping, "_map", lambda params, *_: asked.append(params))
    monkeypatch.setattr(mapping, "run", lambda *_, **__: None)
    mapping.map_(file, resume=resume)
    assert (asked[0]["resume"], asked[0]["only_kept"]) == (resume, resume)


@pytest.mark.parametrize(
    ("reasons", "says"),
    [
        (["deadline", "exhausted", None], "--resume asks only those again."),
        (["too_large", "budget", "malformed"], "--resume may still get answers for 1 of them."),
        (["too_large", "malformed", None], "Each failed line says why."),
    ],
)
def test_a_run_is_taken_up_for_what_may_end_otherwise_alone(reasons, says):
    rows = [{"error": None if reason is None else {"reason": reason}} for reason in reasons]
    assert map_report.retry_hint(rows).endswith(says) and map_report.retry_hint(rows).startswith(
        "Each failed line says why."
    )


def test_a_run_that_was_taken_up_again_names_no_speed():
    assert "(8.0/s, p50 1 ms" in map_report.summary(RESULT, "sat")
    again = map_report.summary({**RESULT, "resumed": True}, "sat")
    assert "/s" not in again and "since it was resumed (p50 1 ms" in again


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
async def test_results_that_a_full_disk_does_not_take_end_as_what_the_system_refuses(tmp_path):
    async with RelayServer() as relay, AsyncExitStack() as stack:
        env = programs.environment(tmp_path / "home", relay.url)
        await programs.run("init", env=env)
        await programs.start(env, stack)
        code, printed, _ = await programs.run("map", "-", "-o", "/dev/full", env=env, stdin=b"one\n")
    assert code == 1 and "No space left" in printed["error"]["message"] and "--resume" in printed["error"]["hint"]


def test_a_node_takes_no_more_jobs_at_once_than_a_map_has():
    assert job_list({"jobs": [1]}) == [1]
    with pytest.raises(UsageError, match="at most 250,000 jobs"):
        job_list({"jobs": [None] * (MOST_JOBS + 1)})


async def test_a_prompt_that_no_event_carries_fails_alone_and_is_named_beforehand(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(f"one\n\n{random.Random(1).randbytes(60_000).hex()}\ntwo\n")
    async with RelayServer() as relay, AsyncExitStack() as stack:
        env = programs.environment(tmp_path / "home", relay.url)
        await programs.run("init", env=env)
        await programs.start(env, stack)
        code, found, _ = await programs.run("map", str(file), "--dry-run", env=env)
        [fault] = found["faults"]
        assert (code, found["jobs"], found["unaskable"]) == (0, 3, 1)
        assert (fault["index"], fault["line"], fault["error"]["reason"]) == (1, 3, "too_large")
        rows = {}
        for again in ([], ["--resume"]):
            code, mapped, told = await programs.run("map", str(file), *again, env=env)
            assert (code, mapped["answered"], mapped["resumed"]) == (JobsFailedError.exit_code, 2, bool(again)), told
            rows[len(again)] = mapped["outcomes"]
        assert rows[0] == rows[1]
        assert [row["error"] and row["error"]["reason"] for row in rows[0]] == [None, "too_large", None]
        assert rows[0][1]["attempts"] == 0 and "120,000 characters" in rows[0][1]["error"]["message"]


def test_lines_that_would_fail_are_named_to_people_and_counted():
    fault = {"line": 7, "error": {"message": "too long"}}
    counts = dict.fromkeys(("providers", "slots", "least_msat", "most_msat", "prompt_tokens", "checks", "jobs"), 0)
    found = {**counts, "unaskable": 12, "faults": [fault] * 12, "wall_s": None, "most_completion_tokens": 0}
    rows = list(estimated(found, None, "sat"))
    assert rows.count(("line 7", "too long")) == 10 and ("", "and 2 more; --json lists up to 100") in rows
