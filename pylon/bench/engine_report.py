"""A whole run of `pylon bench engine`: which model, which comparison, and what is kept of it."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylon import config as settings
from pylon.bench import wild_model
from pylon.bench.engine import IN_FLIGHT, Say, Shapes, chosen_shapes, lower, run_module, sweep, versus
from pylon.bench.engine_picture import draw_sweep
from pylon.bench.engine_work import SHAPES
from pylon.errors import SetupError, UsageError
from pylon.inference.capacity import Capacity, save_capacity
from pylon.inference.engine import EngineSpec
from pylon.inference.models import needle
from pylon.inference.weights import model_directory
from pylon.node.home import Home, open_home

PEER = "mlx-lm-server"


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of the command; empty ones leave the choice to it."""

    model: str = ""
    versus: str = ""
    requests: int = 64
    rounds: int = 3
    shapes: tuple[str, ...] = ()
    plot: Path | None = None


async def measure(plan: Plan, say: Say) -> dict[str, Any]:
    """The report. Raises UsageError, EngineError."""
    if plan.versus not in ("", PEER):
        raise UsageError(f"there is no peer {plan.versus!r}", hint=f"--vs {PEER}")
    if plan.versus and plan.plot is not None:
        raise UsageError("a comparison has no picture", hint="--plot goes without --vs.")
    shapes = chosen_shapes(plan.shapes)
    home, model = _home_and_model(plan.model)
    directory = model_directory(model, settings.home_directory() / "models")
    spec = EngineSpec("mlx", model, directory, slots=IN_FLIGHT)
    if plan.versus:
        return await _compare(spec, plan, shapes, say)
    report = await sweep(spec, plan.requests, shapes, say)
    if home is not None and shapes == SHAPES:
        _remember(home, report)
    if plan.plot is not None:
        plan.plot.write_text(draw_sweep(model, report["rows"]), encoding="utf-8")
    return report


async def _compare(spec: EngineSpec, plan: Plan, shapes: Shapes, say: Say) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        wild = Path(folder) / wild_model.MODEL_ID
        # In a process of its own: this one asks both sides and shall hold no model.
        await run_module("pylon.bench.wild_model", str(wild))
        specs = (spec, EngineSpec("mlx", wild_model.MODEL_ID, wild, slots=spec.slots))
        return lower([await versus(each, plan.requests, plan.rounds, shapes, say) for each in specs])


def _home_and_model(model: str) -> tuple[Home | None, str]:
    """Without a home there is nowhere to remember what was measured, and the packaged model is measured."""
    try:
        home, config = open_home()
    except SetupError:
        return None, model or needle.MODEL_ID
    return home, model or (config.inference.model if config.inference.engine == "mlx" else needle.MODEL_ID)


def _remember(home: Home, report: dict[str, Any]) -> None:
    capacity = Capacity(
        tokens_in_per_s=report["tokens_in_per_s"],
        tokens_out_per_s=report["tokens_out_per_s"],
        slots=IN_FLIGHT,
        measured_at=time.time(),
    )
    save_capacity(home.capacity_file, report["model"], capacity)
