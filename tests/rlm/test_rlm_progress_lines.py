"""How far a run of `pylon rlm` is, where there is no terminal."""

import pytest

from pylon.cli import rlm_report
from pylon.rlm.progress import Tally


@pytest.mark.parametrize(("as_json", "lines"), [(False, 3), (True, 0)])
def test_a_log_has_a_line_every_ten_seconds_and_a_program_none(monkeypatch, as_json, lines):
    now, told = 0.0, []
    monkeypatch.setattr(rlm_report.time, "monotonic", lambda: now)
    monkeypatch.setattr(rlm_report, "tell", told.append)
    with rlm_report.progress("play sat", as_json) as heard:
        for second in range(35):
            now = float(second)
            heard({"type": "turn"}, Tally())
    assert told == [Tally().line("play sat")] * lines
