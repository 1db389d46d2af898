"""What `pylon rlm ask` says and ends with."""

import pytest
import typer

from pylon.cli import rlm_ask
from pylon.clock import SystemClock
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Trajectory


def ended_run(folder, answer):
    """A run of which its question and its end are written."""
    made = Trajectory(folder / "run", SystemClock())
    made.write("run", question=made.text("What?"), strategy="search")
    said = None if answer is None else made.text(answer)
    made.write("final", answer=said, partial=False, reason="final", detail="", turns=1, spent={})
    made.close()
    return Run(folder / "run")


@pytest.mark.parametrize(("answer", "out"), [("x" * 5_000, "x" * 5_000 + "\n"), (None, "")])
def test_an_interrupted_run_that_had_its_answer_prints_the_whole_of_it(tmp_path, capsys, answer, out):
    with pytest.raises(typer.Exit) as ended:
        rlm_ask._interrupted(ended_run(tmp_path, answer), "sat", as_json=False)
    told = capsys.readouterr()
    assert (ended.value.exit_code, told.out) == (130, out)
    assert ("had come to its answer" in told.err) is (answer is not None)
