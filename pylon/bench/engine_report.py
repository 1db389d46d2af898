"""One run of `pylon bench engine`: chooses the model and the comparison, and stores the capacity that it measured."""

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylon import config as settings
from pylon.bench import random_model
from pylon.bench.engine import IN_FLIGHT, Say, Shapes, chosen_shapes, sweep
from pylon.bench.engine_peer import PEERS
from pylon.bench.engine_picture import draw_sweep
from pylon.bench.engine_versus import lower, run_module, versus
from pylon.bench.engine_work import SHAPES
from pylon.errors import SetupError, UsageError
from pylon.inference.capacity import Capacity, save_capacity
from pylon.inference.engine import EngineSpec
from pylon.inference.models import needle
from pylon.inference.models.weights import gguf_file, model_directory, model_name
from pylon.node.home import Home, open_home


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of the command. Empty ones are chosen from the settings."""

    model: str
    engine: str
    versus: str
    requests: int
    rounds: int
    shapes: tuple[str, ...]
    plot: Path | None


async def measure(plan: Plan, say: Say) -> dict[str, Any]:
    """Runs the benchmark; returns its report. Raises UsageError, EngineError."""
    if plan.versus and plan.plot is not None:
        raise UsageError("a comparison has no picture", hint="--plot goes without --vs.")
    shapes = chosen_shapes(plan.shapes)
    home, engine, model = _chosen(plan)
    if plan.versus not in ("", PEERS[engine]):
        raise UsageError(f"{plan.versus!r} is no peer of the {engine} engine", hint=f"--vs {PEERS[engine]}")
    spec = _spec(engine, model, settings.home_directory() / "models")
    if plan.versus:
        return await _compare(spec, plan, shapes, say)
    if home is None:
        say(f"there is no home here: {model} is measured, and the figures are not stored")
    report = await sweep(spec, plan.requests, shapes, say)
    if home is not None and shapes == SHAPES:
        _store_capacity(home, report)
    if plan.plot is not None:
        plan.plot.write_text(draw_sweep(spec.model, report["rows"]), encoding="utf-8")
    return report


async def _compare(spec: EngineSpec, plan: Plan, shapes: Shapes, say: Say) -> dict[str, Any]:
    if spec.engine != "mlx":
        return lower([await versus(spec, plan.requests, plan.rounds, shapes, say)])
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / random_model.MODEL_ID
        # In a separate process: this one asks both sides and must hold no model.
        await run_module("pylon.bench.random_model", str(directory))
        specs = (spec, EngineSpec("mlx", random_model.MODEL_ID, directory, slots=spec.slots))
        return lower([await versus(each, plan.requests, plan.rounds, shapes, say) for each in specs])


def _chosen(plan: Plan) -> tuple[Home | None, str, str]:
    """The home, engine and model. Without a home, which is None then, the capacity is not stored.

    What the plan leaves open is as in the settings, or the packaged model under MLX. Raises UsageError.
    """
    if plan.engine not in ("", *PEERS):
        raise UsageError(f"there is no engine {plan.engine!r} to measure", hint=f"Engines are: {', '.join(PEERS)}.")
    home, engine, model = None, "mlx", needle.MODEL_ID
    with contextlib.suppress(SetupError):
        home, config = open_home()
        if config.inference.engine in PEERS and plan.engine in ("", config.inference.engine):
            engine, model = config.inference.engine, config.inference.model
    return home, plan.engine or engine, plan.model or model


def _spec(engine: str, model: str, models: Path) -> EngineSpec:
    if engine == "llama":
        return EngineSpec(engine, model_name(model), slots=IN_FLIGHT, model_file=gguf_file(model, models))
    return EngineSpec(engine, model, model_directory(model, models), slots=IN_FLIGHT)


def _store_capacity(home: Home, report: dict[str, Any]) -> None:
    capacity = Capacity(
        tokens_in_per_s=report["tokens_in_per_s"],
        tokens_out_per_s=report["tokens_out_per_s"],
        slots=IN_FLIGHT,
        measured_at=time.time(),
    )
    save_capacity(home.capacity_file, report["model"], capacity)
