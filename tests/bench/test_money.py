"""`pylon bench money`: what it says holds, and nothing of it is left behind."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pylon.bench.accounts import overhead

PROMISED = {
    "jobs", "answered", "providers", "wall_s", "network", "sats", "deposited_sats", "lightning_payments",
    "ledger_entries", "audit", "overhead_ms_per_job_p50", "overhead_cpu_ms_per_job_p50",
}  # fmt: skip


async def test_the_overhead_of_accounts_has_a_figure_by_either_clock(tmp_path):
    figures = await overhead(8, tmp_path)
    assert set(figures) == {"overhead_ms_per_job_p50", "overhead_cpu_ms_per_job_p50"}
    # How much it is says nothing here: it is the difference of two times, and eight jobs take little of either.
    assert all(math.isfinite(figure) for figure in figures.values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_paid_run_is_clean_takes_few_payments_and_leaves_nothing_behind(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "pylon.cli.main", "bench", "money", "--jobs", "100", "--providers", "2", "--json"],
        capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=500,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    report = json.loads(ended.stdout)
    assert set(report) == PROMISED
    assert (report["answered"], report["network"], report["audit"]) == (100, "play", "clean")
    assert 2 <= report["lightning_payments"] <= 20
    # Each job is one entry at its provider and one at its customer; each payment is one on either side.
    assert report["ledger_entries"] >= 200 + 2 * report["lightning_payments"]
    assert list(Path(tmp_path).glob("pylon-money-*")) == []


def living_in(folder: Path) -> list[psutil.Process]:
    """Processes whose home lies here."""
    found = psutil.process_iter(["environ"])
    return [process for process in found if str(folder) in (process.info["environ"] or {}).get("PYLON_HOME", "")]


def test_a_paid_run_that_is_told_to_end_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "pylon.cli.main", "bench", "money", "--jobs", "1", "--providers", "1", "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not living_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        assert living_in(tmp_path)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert json.loads(printed)["error"]["type"] == "InterruptError"
        assert living_in(tmp_path) == []
        assert list(tmp_path.glob("pylon-money-*")) == []
    finally:
        for left in living_in(tmp_path):
            left.kill()
