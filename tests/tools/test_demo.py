"""`scripts/demo`: what its script says, when it holds, and one small demo from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from pylon.bench.planted_fact import make_task
from pylon.rlm import prompts
from pylon.rlm.parsing import parse_turn
from tools.demo import script
from tools.demo.runs import holds

PROMISED = {
    "jobs", "answered", "verified", "providers", "wall_s", "p50_ms", "p99_ms", "by_provider", "model", "question",
    "answer", "expected", "context_chars", "network", "sats", "deposited_sats", "lightning_payments", "audit",
    "trajectory", "scripted",
}  # fmt: skip
SCRIPTED = {"answer": "7", "jobs": 16, "answered": 16, "verified": 16}
GOOD = {
    "jobs": 200, "answered": 200, "verified": 200, "providers": 2, "answer": "7", "expected": "7", "audit": "clean",
    "scripted": SCRIPTED,
}  # fmt: skip
MANY = {"seeds": 20, "share": 0.95, "jobs": 9, "answered": 9, "verified": 9, "audit": "clean"}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"answer": "8"}, {"answer": None}, {"answered": 199}, {"verified": 199}, {"providers": 1},
        {"audit": "not clean"},
        {"scripted": {**SCRIPTED, "answer": "none"}}, {"scripted": {**SCRIPTED, "verified": 15}},
        {"scripted": {**SCRIPTED, "jobs": 0, "answered": 0, "verified": 0}},
    ],
)  # fmt: skip
def test_a_demo_holds_only_when_all_of_it_does(spoilt):
    assert holds(GOOD)
    assert not holds({**GOOD, **spoilt})


def test_many_seeds_hold_from_nineteen_of_twenty_on():
    assert holds(MANY)
    assert not holds({**MANY, "share": 0.9})
    assert not holds({**MANY, "verified": 8})


def test_the_script_is_served_as_chat_completions_knows_where_it_is_and_not_what_was_planted():
    task = make_task(2_000, 3)
    turns = []
    with script.endpoint(script.script(task)) as url:
        for opening in (prompts.task(task.question, "a str"), prompts.task(None, "a str")):
            chat = [{"role": "system", "content": "s"}, {"role": "user", "content": opening}]
            for _ in range(3):
                said = httpx.post(f"{url}/chat/completions", json={"messages": chat}).json()
                assert said["model"] == "scripted"
                turns.append(said["choices"][0]["message"]["content"])
                chat += [{"role": "assistant", "content": turns[-1]}, {"role": "user", "content": "Output: …"}]
    assert len(set(turns)) == 6 and not any(task.value in turn for turn in turns)
    for turn in turns:
        (code,) = parse_turn(turn).blocks
        compile(code, "turn", "exec")


def lives_in(process, folder):
    try:
        return str(folder) in process.environ().get("PYLON_HOME", "")
    except psutil.Error:
        return False


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_small_demo_finds_the_fact_twice_and_leaves_its_trajectories_and_nothing_running(tmp_path):
    before = {process.pid for process in psutil.process_iter()}
    ended = subprocess.run(
        [sys.executable, "-m", "tools.demo", "--chars", "20000", "--json"],
        capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=800,
    )
    told = ended.stderr.decode()
    assert ended.returncode == 0, told
    report = json.loads(ended.stdout)
    assert set(report) == PROMISED
    assert report["answer"] == report["scripted"]["answer"] == report["expected"]
    assert report["scripted"]["loops"] == 5 and report["context_chars"] >= 20_000
    for trajectory in (report["trajectory"], report["scripted"]["trajectory"]):
        assert (Path(trajectory) / "events.jsonl").stat().st_size
    (home,) = tmp_path.glob("pylon-demo-*/*")
    assert {path.name for path in home.iterdir()} == {"config.toml", "runs"}
    mine = [process for process in psutil.process_iter() if process.pid not in before]
    assert not [process for process in mine if lives_in(process, tmp_path)]
