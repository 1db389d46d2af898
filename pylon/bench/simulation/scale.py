"""The simulations that docs/scale.md shows, and their pictures."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from pylon.bench.chart import Line, draw
from pylon.bench.simulation.plan import Plan
from pylon.bench.simulation.run import simulate

_BLUE, _ORANGE = "#1d4ed8", "#c2410c"
FIGURES = "figures.json"
# The columns of the table, by their names in the report.
COLUMNS = ("answered", "wall_s", "ideal_s", "ratio", "sent_per_job", "wrong", "gini", "relay_events_per_job")

type Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line in a picture: its name, and its value in a report."""

    name: str
    value: Callable[[Report], float]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Simulations that differ in one setting of the plan. `given` are further settings, `logarithmic` the x axis."""

    name: str
    setting: str
    values: tuple[float, ...]
    title: str
    axis: str
    unit: str
    curves: tuple[Curve, ...]
    given: tuple[tuple[str, Any], ...] = ()
    logarithmic: bool = False

    def plans(self, base: Plan) -> Iterator[Plan]:
        """The plan of each value."""
        for value in self.values:
            changed: dict[str, Any] = {**dict(self.given), self.setting: value}
            yield replace(base, **changed)


_TIMES = (Curve("as it went", lambda r: float(r["wall_s"])), Curve("ideal", lambda r: float(r["ideal_s"])))
_RATIO = (Curve("time, as a multiple of the ideal", lambda r: float(r["ratio"])),)
_RATIO_WRONG = (*_RATIO, Curve("wrong answers delivered, per cent", lambda r: 100 * r["wrong"] / r["plan"]["jobs"]))


def _per_s(report: Report, *kinds: str) -> float:
    events = sum(report["traffic"].get(kind, {}).get("events_out", 0) for kind in kinds)
    return float(events) / float(report["wall_s"])


_PRESENCE = Curve("heartbeats sent on a second", lambda r: _per_s(r, "heartbeat", "announcement"))
_WORK = Curve("requests, results and feedback a second", lambda r: _per_s(r, "request", "result", "feedback"))
_SIZES = (100, 300, 1_000, 3_000, 10_000)
_SIZE = ("providers", _SIZES)

SWEEPS = (
    Sweep("size", *_SIZE, "Completion time against swarm size", "providers", "seconds", _TIMES, logarithmic=True),
    Sweep(
        "cost",
        *_SIZE,
        "Cost of a decision against swarm size",
        "providers",
        "µs of the processor",
        (Curve("a command of the dispatcher", lambda r: float(r["cost"]["us_per_command"])),),
        logarithmic=True,
    ),
    Sweep(
        "fairness",
        *_SIZE,
        "Fairness: Gini coefficient over honest machines",
        "providers",
        "Gini",
        (
            Curve("of what they earned", lambda r: float(r["gini"])),
            Curve("of how fast they are", lambda r: float(r["gini_of_speed"])),
        ),
        logarithmic=True,
    ),
    Sweep(
        "traffic",
        "customers",
        (1, 4, 16, 64),
        "What a relay sends on",
        "customers",
        "events a second",
        (_PRESENCE, _WORK),
        logarithmic=True,
    ),
    Sweep(
        "customers",
        "customers",
        (1, 4, 16, 64),
        "Customers that begin at once, over four relays",
        "customers",
        "",
        (*_RATIO, Curve("Gini coefficient over machines", lambda r: float(r["gini"]))),
        (("relays", 4),),
        logarithmic=True,
    ),
    Sweep(
        "stragglers", "stragglers", (0, 0.02, 0.05, 0.1, 0.2), "Ten times slower than they say", "share", "", _RATIO
    ),
    Sweep("liars", "liars", (0, 0.05, 0.1, 0.2), "Machines that cheat", "share", "", _RATIO_WRONG),
    Sweep("churn", "churn", (0, 0.1, 0.25, 0.5, 1), "Machines that vanish", "share a minute", "", _RATIO),
    Sweep("lost", "lost", (0, 0.05, 0.1, 0.2, 0.3), "Live events lost", "share", "", _RATIO),
    Sweep(
        "relays",
        "dead_relays",
        (0, 0.25, 0.5, 0.75),
        "Relays that die",
        "share of four",
        "",
        _RATIO,
        (("relays", 4),),
    ),
)


def scale(base: Plan, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs all sweeps, writes their pictures and figures into a folder, and returns the figures.

    Raises `UsageError` before the first one if `base` does not fit all of them, as with fewer jobs than customers.
    """
    plans = {sweep: tuple(sweep.plans(base)) for sweep in SWEEPS}
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[Plan, Report] = {}
    figures: dict[str, list[Report]] = {}
    for sweep in SWEEPS:
        for plan in plans[sweep]:
            if plan not in done:
                done[plan] = simulate(plan)
                say(f"{sweep.name}: {sweep.setting} {getattr(plan, sweep.setting):g}, ratio {done[plan]['ratio']}")
        figures[sweep.name] = [done[plan] for plan in plans[sweep]]
        (folder / f"{sweep.name}.svg").write_text(picture(sweep, figures[sweep.name]), encoding="utf-8")
    (folder / FIGURES).write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    return figures


def picture(sweep: Sweep, reports: Sequence[Report]) -> str:
    """The picture of a sweep, as SVG."""
    colours = (_BLUE, _ORANGE)
    lines = [
        Line(curve.name, colour, [(x, curve.value(r)) for x, r in zip(sweep.values, reports, strict=True)])
        for curve, colour in zip(sweep.curves, colours, strict=False)
    ]
    top = max(y for line in lines for _, y in line.points)
    return draw(
        sweep.title,
        lines,
        x_label=sweep.axis,
        y_label=sweep.unit or "see the key",
        x_ticks=[(value, f"{value:,g}") for value in sweep.values],
        y_ticks=[(tick, f"{tick:g}") for tick in ticks(top)],
        scale=math.log10 if sweep.logarithmic else float,
    )


def ticks(top: float) -> list[float]:
    """A few round values from zero to `top` or just above it; to one if `top` is zero."""
    top = top if top > 0 else 1.0
    size = 10 ** math.floor(math.log10(top))
    step = next(size * part for part in (0.2, 0.25, 0.5, 1.0, 2.0) if top / (size * part) <= 7)
    return [round(n * step, 10) for n in range(math.ceil(top / step - 1e-9) + 1)]


def table(figures: dict[str, list[Report]]) -> str:
    """The figures as a table in Markdown."""
    head = ["sweep", "setting", *(f"`{name}`" for name in COLUMNS)]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for sweep in SWEEPS:
        if sweep.name in ("cost", "fairness"):
            continue
        for value, report in zip(sweep.values, figures[sweep.name], strict=True):
            cells = [sweep.name, f"{sweep.setting} {value:,g}", *(f"{report[name]:,}" for name in COLUMNS)]
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"
