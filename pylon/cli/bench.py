"""`pylon bench`: what is measured, and how."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pylon.bench import money
from pylon.bench.fanout import MIN_PROCESSES, Fanout, fanout
from pylon.bench.swarm import SwarmPlan, swarm
from pylon.cli.output import Json, err, fail, out, print_json, run, table
from pylon.errors import JobsFailedError

app = typer.Typer(no_args_is_help=True, help="Measure this program on this machine.")


@app.command("fanout")
def fanout_(
    providers: Annotated[int, typer.Option(min=2, help="How many providers, each with a key of its own.")] = 100,
    jobs: Annotated[int, typer.Option(min=1, help="How many jobs one customer maps.")] = 100,
    relays: Annotated[int, typer.Option(min=1, help="How many relays; every provider is on one of them.")] = 1,
    size: Annotated[int, typer.Option("--bytes", min=16, max=40_000, help="Bytes of each prompt.")] = 300,
    processes: Annotated[
        int, typer.Option(min=MIN_PROCESSES, help="How many processes hold the providers.")
    ] = MIN_PROCESSES,
    as_json: Json = False,
) -> None:
    """Fan jobs out to many providers and back, and compare with what that cannot avoid.

    Relays, providers and customer are processes of this machine; a stand-in answers in place of a model.
    docs/benchmarks.md says what each figure means.
    """
    report = run(_fanout(Fanout(providers, jobs, relays, size, processes)), as_json=as_json)
    _print(report, as_json)
    if report["completed"] != report["jobs"]:
        fail(JobsFailedError(f"{report['jobs'] - report['completed']} of {report['jobs']} jobs got no answer"))


async def _fanout(plan: Fanout) -> dict[str, Any]:
    return await fanout(plan, lambda text: err.print(f"bench: {text}", style="dim"))


@app.command("swarm")
def swarm_(
    providers: Annotated[int, typer.Option(min=4, max=256, help="How many providers there are at the most.")] = 64,
    as_json: Json = False,
) -> None:
    """Map jobs on 1, 4, 16 and more providers: how many times as fast as one; and with slow and dying ones.

    All is the shipped program but the compute, which is a model: engines that sleep 0.8 s a job, one at a time.
    """
    report = run(_swarm(SwarmPlan(providers)), as_json=as_json)
    if as_json:
        print_json(report)
    else:
        made = table("figure", ">")
        for name, value in report.items():
            made.add_row(name, str(value))
        out.print(made)
    if report["missing"]:
        fail(JobsFailedError(f"{report['missing']} jobs got no answer"))


async def _swarm(plan: SwarmPlan) -> dict[str, Any]:
    return await swarm(plan, lambda text: err.print(f"bench: {text}", style="dim"))
