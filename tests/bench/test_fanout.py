"""`pylon bench fanout`: what it says holds, and nothing of it is left behind."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from resource import RLIM_INFINITY

import psutil
import pytest

from pylon.bench.credit import PRICE
from pylon.bench.fanout import Fanout, fanout
from pylon.bench.floor import Sizes, measure
from pylon.bench.prose import prose
from pylon.errors import SetupError, UsageError
from pylon.host import open_files

COMMAND = [sys.executable, "-m", "pylon.cli.main", "bench", "fanout"]
PROMISED = {
    "completed", "wall_s", "floor_s", "ratio", "warm_ratio", "relay_cpu_s", "customer_rss_mb",
    "warm_wall_s", "warm_floor_s", "strict_ratio",
}  # fmt: skip


def plan(providers: int, jobs: int, *, processes: int = 2, accounts: bool = True) -> Fanout:
    return Fanout(providers, jobs, relays=1, size=300, processes=processes, accounts=accounts)


def parts_of(folder: Path) -> list[psutil.Process]:
    """Processes of a benchmark whose temporary folder lies here."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or ())
        if "pylon.bench." in command and (process.info["environ"] or {}).get("TMPDIR") == str(folder):
            found.append(process)
    return found


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder)}


def test_a_small_fanout_completes_and_leaves_nothing_behind(tmp_path):
    ended = subprocess.run(
        [*COMMAND, "--providers", "20", "--jobs", "20", "--relays", "2", "--json"],
        capture_output=True,
        env=environment(tmp_path),
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    report = json.loads(ended.stdout)
    assert set(report) >= PROMISED
    assert report["completed"] == report["jobs"] == 20
    assert report["engine"] == "stand-in-instant"
    # All was charged, in both maps: on trial, and on credit.
    assert report["accounts"] is True
    assert all(paid >= 20 * int(PRICE.base_msat) for paid in report["paid_msat"])
    assert report["ratio"] == pytest.approx(report["wall_s"] / report["floor_s"], rel=0.1)
    # One a side and pair that had not met; a pair that a hedge brought together may come on top.
    assert report["agreements"][0] >= 20
    # Processor time is counted in steps of 10 ms, which a relay may not fill with so few jobs.
    assert all(report[name] > 0 for name in PROMISED - {"relay_cpu_s"})
    assert parts_of(tmp_path) == []
    assert list(tmp_path.glob("pylon-fanout-*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_fanout_leaves_nothing_behind(tmp_path, number):
    process = subprocess.Popen(
        [*COMMAND, "--providers", "4", "--jobs", "4", "--json"],
        env=environment(tmp_path),
        # What a shell starts in its background ignores Ctrl-C, and hands that down to the tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not parts_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert parts_of(tmp_path)
    process.send_signal(number)
    assert process.wait(60) != 0
    assert parts_of(tmp_path) == []
    assert list(tmp_path.glob("pylon-fanout-*")) == []


@pytest.mark.slow
def test_parts_end_with_a_caller_that_was_killed(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "--providers", "4", "--jobs", "4", "--json"],
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not parts_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while parts_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert parts_of(tmp_path) == []


async def test_every_part_of_the_floor_takes_time():
    floor = await measure(Sizes(400, 300, 1_100, 1_000))
    assert all(getattr(floor, field.name) > 0 for field in fields(floor))
    assert floor.of(10, 0) > 0
    assert floor.of(10, 20) == pytest.approx(floor.of(10, 0) + 20 * floor.agree_s)
    assert floor.of(10, 20, own=True) == pytest.approx(floor.of(10, 0) + 20 * floor.own_agree_s)


async def test_larger_messages_raise_the_floor():
    # In processor time: other programs on the machine must not decide it.
    small = await measure(Sizes(400, 300, 1_100, 1_000), time.process_time)
    large = await measure(Sizes(400, 300, 120_000, 1_000), time.process_time)
    assert large.websocket_s > small.websocket_s


def test_prompts_are_distinct_and_of_the_size_that_was_asked_for():
    rng = random.Random(1)
    prompts = [prose(rng, 300) for _ in range(100)]
    assert {len(prompt.encode()) for prompt in prompts} == {300}
    assert len(set(prompts)) == 100


@pytest.mark.slow
def test_a_free_fanout_charges_nothing(tmp_path):
    report = asyncio.run(fanout(plan(4, 12, accounts=False), lambda _: None))
    assert report["completed"] == 12
    assert report["paid_msat"] == [0, 0]


def test_more_jobs_than_trials_are_refused():
    with pytest.raises(UsageError, match="one job on trial"):
        plan(10, 11)


def test_one_process_of_providers_is_refused():
    with pytest.raises(UsageError):
        plan(10, 10, processes=1)


def test_more_files_than_the_system_allows_are_refused_before_anything_begins(monkeypatch):
    def refuses(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (256, RLIM_INFINITY))
    # macOS has a further bound, of which it tells only so.
    monkeypatch.setattr(open_files.resource, "setrlimit", refuses)
    with pytest.raises(SetupError, match="and 256 is the most") as caught:
        asyncio.run(fanout(plan(1_000, 1_000), print))
    assert "ulimit" in caught.value.hint


async def test_a_relay_that_cannot_start_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("pylon.bench.process._PYTHON", (sys.executable, "-c", "raise SystemExit('no such relay')"))
    with pytest.raises(Exception, match="ended"):
        await asyncio.wait_for(fanout(plan(2, 2), lambda _: None), 30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fanout", "--providers", "100", "--jobs", "400"), "400 jobs for 100 providers"),
        (("engine", "--shape", "circles"), "there is no shape 'circles'"),
    ],
)
def test_figures_that_do_not_fit_are_a_plain_error_of_the_command(arguments, says):
    ended = subprocess.run([*COMMAND[:-1], *arguments, "--json"], capture_output=True, text=True, timeout=100)
    assert ended.returncode == UsageError.exit_code
    assert json.loads(ended.stdout)["error"]["type"] == "UsageError"
    assert ended.stderr.startswith("pylon: ") and says in ended.stderr and "Traceback" not in ended.stderr
