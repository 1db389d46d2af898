"""`pylon simulate`: simulates swarms that are larger than can be built for a test."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn

from pylon.bench.simulation.plan import Plan
from pylon.cli.output import err, out, table
from pylon.cli.running import Json, fail, print_json
from pylon.collect import collect_rarely
from pylon.errors import PylonError, UsageError

_DEFAULT = Plan()
_COSTS = ("us_per_command", "us_per_heartbeat")
_SHARE = "a share from 0 to 1"


def simulate_(
    providers: Annotated[int, typer.Option(help="How many machines, at most 100,000.")] = _DEFAULT.providers,
    jobs: Annotated[int, typer.Option(help="How many jobs in all, at most 1,000,000.")] = _DEFAULT.jobs,
    customers: Annotated[int, typer.Option(help="How many customers share the jobs.")] = _DEFAULT.customers,
    relays: Annotated[int, typer.Option(help="How many relays; each machine uses two of them.")] = _DEFAULT.relays,
    seed: Annotated[int, typer.Option(help="The random seed; the same seed gives the same run.")] = _DEFAULT.seed,
    width: Annotated[int, typer.Option(help="The most jobs in flight per customer.")] = _DEFAULT.width,
    slots: Annotated[int, typer.Option(help="How many jobs a machine runs at once.")] = _DEFAULT.slots,
    max_queue: Annotated[
        int,
        typer.Option(
            help="How many jobs of new customers, and as many of known ones, may wait at a machine before it is busy."
        ),
    ] = _DEFAULT.max_queue,
    job_s: Annotated[float, typer.Option(help="Seconds per job on the median machine.")] = _DEFAULT.job_s,
    unlike: Annotated[
        float, typer.Option(help="The spread of machines' job times, as the standard deviation of their logarithm.")
    ] = _DEFAULT.unlike,
    uneven: Annotated[float, typer.Option(help="The same spread for the jobs on one machine.")] = _DEFAULT.uneven,
    stragglers: Annotated[float, typer.Option(help=f"Machines ten times slower than they claim, {_SHARE}.")] = 0.0,
    liars: Annotated[float, typer.Option(help=f"Machines that cheat, {_SHARE}.")] = 0.0,
    churn: Annotated[float, typer.Option(help=f"Machines that disappear within a minute, {_SHARE}.")] = 0.0,
    dead_relays: Annotated[float, typer.Option(help=f"Relays that fail after a second, {_SHARE}.")] = 0.0,
    lost: Annotated[float, typer.Option(help=f"Live events that never arrive, {_SHARE}.")] = 0.0,
    paid: Annotated[bool, typer.Option("--paid", help="Charge for work, at differing prices.")] = False,
    pictures: Annotated[
        Path | None,
        typer.Option("--scale", help="Run everything shown in docs/scale.md, and draw it to this folder."),
    ] = None,
    cost: Annotated[
        int,
        typer.Option(
            min=0,
            help=("Measure what one decision costs with 1,000 and with 100,000 machines, this many times in turn."),
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Simulate a swarm: this program's real scheduling code among modelled machines, relays and people.

    The clock is simulated and no socket is opened. docs/scale.md explains the model and shows results.
    """
    try:
        if pictures is not None and cost:
            raise UsageError("--scale and --cost are two measurements", hint="Run one after the other.")
        plan = Plan(
            providers, jobs, customers, relays, seed, width, slots, max_queue, job_s, unlike, uneven,
            stragglers, liars, churn, dead_relays, lost, paid,
        )  # fmt: skip
    except UsageError as error:
        fail(error, as_json=as_json)
    collect_rarely()

    def say(text: str) -> None:
        err.print(f"simulate: {text}", style="dim")

    try:
        if pictures is not None:
            from pylon.bench.simulation.scale import scale

            report: dict[str, Any] = scale(plan, pictures, say)
        elif cost:
            from pylon.bench.simulation.cost import decision_cost

            report = decision_cost(plan, cost, say)
        else:
            report = _simulate(plan, as_json)
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json(report)
    elif pictures is not None:
        out.print(f"drawn in {pictures}")
    elif cost:
        _print_cost(report)
    else:
        _print(report)


def _simulate(plan: Plan, as_json: bool) -> dict[str, Any]:
    from pylon.bench.simulation.run import simulate

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
    )
    with Progress(*columns, console=err, transient=True, disable=as_json or not err.is_terminal) as progress:
        task = progress.add_task(f"{plan.providers:,} machines", total=plan.jobs)

        def told(done: int, jobs: int, now: float) -> None:
            progress.update(task, completed=done, total=jobs, description=f"{now:.0f} simulated seconds")

        return simulate(plan, told)


def _print(report: dict[str, Any]) -> None:
    made = table("figure", ">")
    for name, value in report.items():
        if not isinstance(value, dict):
            made.add_row(name, f"{value:,}")
    for name, count in report["failed"].items():
        made.add_row(f"failed: {name}", f"{count:,}")
    for name, value in report["cost"].items():
        made.add_row(name, f"{value:,}")
    out.print(made)
    kinds = table("relays", ">in", ">out", ">MB in", ">MB out")
    for kind, counted in report["traffic"].items():
        sizes = (f"{counted['bytes_in'] / 1e6:,.1f}", f"{counted['bytes_out'] / 1e6:,.1f}")
        kinds.add_row(kind, f"{counted['events_in']:,}", f"{counted['events_out']:,}", *sizes)
    out.print(kinds)


def _print_cost(report: dict[str, Any]) -> None:
    for place, words in (("in_the_model", "among modelled machines"), ("alone", "by themselves")):
        cost = report[place]
        commands, beats = (" and ".join(f"{us:.1f}" for us in cost[what].values()) for what in _COSTS)
        out.print(
            f"deciders {words}: with 1,000 and 100,000 machines {commands} µs per command, a "
            f"ratio of {cost['ratio']}; {beats} µs per heartbeat"
        )
