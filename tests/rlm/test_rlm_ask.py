"""What `pylon rlm ask` and `pylon rlm export` leave when they cannot end as they should."""

import asyncio
import resource

import pytest
import typer

from pylon.cli import rlm_report
from pylon.clock import SystemClock
from pylon.errors import UsageError
from pylon.node.rlm import parts
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Trajectory
from pylon.sections import RlmSection
from tests.node import programs


def ended_run(folder, answer):
    """A run of which its question and its end are written."""
    made = Trajectory(folder / "run", SystemClock())
    root = {"name": "r", "context_tokens": 0}
    sub = {
        "name": "s",
        "models": [],
        "context_tokens": 0,
        "width": 1,
        "model": None,
        "max_tokens": 1,
        "temperature": 0.0,
    }
    limits = {"msat": None, "calls": None, "tokens": None, "wall_s": None, "depth": 1, "prompt_chars": None}
    made.write("run", question=made.text("What?"), strategy="search", root=root, sub=sub, limits=limits, turns=1,
               context={"kind": "text", "chars": 3, "files": []})  # fmt: skip
    said = None if answer is None else made.text(answer)
    made.write("final", answer=said, partial=False, reason="final", detail="", turns=1,
               spent={"msat": 0, "calls": 0, "tokens": 0})  # fmt: skip
    made.close()
    return Run(folder / "run")


@pytest.mark.parametrize(("answer", "out"), [("x" * 5_000, "x" * 5_000 + "\n"), (None, "")])
def test_an_interrupted_run_that_had_its_answer_prints_the_whole_of_it(tmp_path, capsys, answer, out):
    with pytest.raises(typer.Exit) as ended:
        rlm_report.tell_interrupted(ended_run(tmp_path, answer), "sat", as_json=False)
    told = capsys.readouterr()
    assert (ended.value.exit_code, told.out) == (130, out)
    assert ("had found its answer" in told.err) is (answer is not None)


@pytest.mark.parametrize("form", ["rlm", "events", "csv"])
async def test_an_export_that_finds_no_room_leaves_what_was_there(tmp_path, form):
    env = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    await programs.run("init", env=env)
    run = ended_run(tmp_path / "home" / "runs", "x" * 50_000)
    there = tmp_path / "out"
    there.write_text("before")

    async def export(bytes_at_most):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_at_most, bytes_at_most))

        process = await programs.spawn(
            "rlm", "export", run.id, "--format", form, "-o", str(there), env=env,
            stderr=asyncio.subprocess.PIPE, preexec_fn=limit,
        )  # fmt: skip
        _, told = await process.communicate()
        return process.returncode, told.decode()

    code, told = await export(16)
    assert code and told.startswith("pylon: ") and there.read_text() == "before"
    assert not list(tmp_path.glob(".out*"))
    assert await export(1 << 20) == (0, f"{there}: {there.stat().st_size:,} bytes\n")
    assert there.read_text() != "before"


@pytest.mark.parametrize(
    ("strategy", "wishes", "says"),
    [
        (None, {"root_model": "gpt-5"}, "`root_model` was given, but there is no root model"),
        ("search", {"root_temperature": 0.0}, "`root_temperature` was given, but there is no root model"),
    ],
)
def test_a_wish_for_the_root_model_is_refused_where_there_is_none(strategy, wishes, says):
    section = parts.overridden(RlmSection(), wishes)
    with pytest.raises(UsageError, match=says) as refused:
        parts.strategy_of(section, strategy, wishes)
    assert "Set `rlm.root`" in refused.value.hint
    assert parts.strategy_of(section, strategy, {"root_model": None}) == (strategy or "map-reduce")
    assert parts.strategy_of(RlmSection(root="swarm"), None, wishes) == "rlm"
