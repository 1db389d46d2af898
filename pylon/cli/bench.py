"""`pylon bench`: runs the benchmarks of `pylon.bench`, and prints their reports."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

# Each command imports only its own benchmark.
from pylon.cli.output import err, out, table
from pylon.cli.running import Json, ended_as_by_ctrl_c, fail, print_json, run
from pylon.errors import InterruptError, JobsFailedError, PylonError

type Measuring = Coroutine[Any, Any, dict[str, Any]]

app = typer.Typer(no_args_is_help=True, help="Measure this program on this machine.")


@app.command("fanout")
def fanout_(
    providers: Annotated[int, typer.Option(min=2, help="How many providers, each with its own key.")] = 100,
    jobs: Annotated[int, typer.Option(min=1, help="How many jobs one customer maps.")] = 100,
    relays: Annotated[int, typer.Option(min=1, help="How many relays. Each provider uses one of them.")] = 1,
    size: Annotated[
        int, typer.Option("--bytes", min=16, max=40_000, help="The size of each prompt, in bytes.")
    ] = 300,
    processes: Annotated[int, typer.Option(min=2, help="How many processes the providers share.")] = 2,
    free: Annotated[
        bool, typer.Option("--free", help="Run without accounts, receipts and the customer's journal.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fan jobs out to many providers and back, and compare with the unavoidable cost.

    Relays, providers and customer run as processes on this machine; a stand-in takes the place of the model.
    docs/benchmarks.md explains each figure.
    """
    from pylon.bench.fanout import Fanout, fanout

    def work() -> Measuring:
        return fanout(Fanout(providers, jobs, relays=relays, size=size, processes=processes, accounts=not free), _say)

    report = _measured(work, as_json)
    _print(report, as_json)
    if report["completed"] != report["jobs"]:
        fail(JobsFailedError(f"{report['jobs'] - report['completed']} of {report['jobs']} jobs got no answer"))


@app.command("first-answer")
def first_answer_(
    providers: Annotated[int, typer.Option(min=2, help="How many providers.")] = 1_000,
    times: Annotated[int, typer.Option(min=1, help="How many customers to measure, one after another.")] = 5,
    as_json: Json = False,
) -> None:
    """Measure how long a new customer waits for its first answer, starting from an empty directory, at one
    relay."""
    from pylon.bench.first_answer import Newcomers, first_answer

    _print(_measured(lambda: first_answer(Newcomers(providers, times), _say), as_json), as_json)


@app.command()
def needle(
    repeats: Annotated[int, typer.Option(min=1, help="How many chunks to read; the median is shown.")] = 8,
    as_json: Json = False,
) -> None:
    """Measure how many milliseconds one core needs to read a chunk of 500 tokens with needle-1.

    Compares MLX with its own BLAS, MLX with OpenBLAS where that is installed, and llama.cpp in the development
    setup.
    """
    from pylon.bench.needle_timing import time_chunks

    try:
        report = time_chunks(repeats)
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json(report)
        return
    made = table("one core, 500 tokens", ">ms")
    for engine, ms in report.items():
        made.add_row(engine, "not installed" if ms is None else f"{ms:.1f}")
    out.print(made)


@app.command("engine")
def engine_(
    model: Annotated[str, typer.Option(help="The model (default: the one in the settings).")] = "",
    engine: Annotated[str, typer.Option(help="mlx or llama (default: the one in the settings).")] = "",
    vs: Annotated[str, typer.Option(help="Compare with mlx-lm-server, or with llama-server for llama.")] = "",
    requests: Annotated[int, typer.Option(min=1, help="How many prompts of each shape per round.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="With --vs: how often to measure each side, in turn.")] = 3,
    shape: Annotated[list[str] | None, typer.Option(help="Measure only this shape. Repeatable.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Without --vs: draw the throughput to this SVG file.")] = None,
    as_json: Json = False,
) -> None:
    """Measure answers per second and latency with 1 to 32 in flight, and store the result as this machine's
    capacity. This may take many minutes; it says first about how many.

    --vs mlx-lm-server compares with mlx_lm's own server, on this model and on one with random weights; the lower
    of the two figures counts. --engine llama --vs llama-server compares with llama.cpp's own server, on this
    model. docs/benchmarks.md explains each figure.
    """
    from pylon.bench import engine_report

    plan = engine_report.Plan(model, engine, vs, requests, rounds, tuple(shape or ()), plot)
    report = _measured(lambda: engine_report.measure(plan, _say), as_json)
    if as_json:
        print_json(report)
    elif vs:
        _print_versus(report)
    else:
        made = table("shape", ">in flight", ">answers/s", ">tokens in/s", ">tokens out/s", ">p50 s", ">p95 s")
        for row in report["rows"]:
            made.add_row(*(str(row[name]) for name in row if name != "requests"))
        out.print(made)


@app.command("endurance")
def endurance_(
    requests: Annotated[int, typer.Option(min=1, help="How many requests one inference process answers.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Measure whether a model's process grows over many requests, and how much memory an idle node takes."""
    from pylon.bench import endurance

    report = _measured(lambda: endurance.endurance(requests, _say), as_json)
    _print(report, as_json)


@app.command("money")
def money_(
    jobs: Annotated[int, typer.Option(min=1, help="How many paid jobs one customer maps.")] = 1_000,
    providers: Annotated[int, typer.Option(min=1, max=20, help="How many providers share the jobs.")] = 4,
    as_json: Json = False,
) -> None:
    """Pay for many jobs with play money, check that all books agree, and measure what payments cost.

    A stand-in takes the place of the model. docs/benchmarks.md explains each figure.
    """
    from pylon.bench import money

    report = _measured(lambda: money.bench(money.Plan(jobs, providers), _say), as_json)
    _print(report, as_json)
    if report["answered"] != jobs or report["audit"] != "clean":
        fail(JobsFailedError(f"{report['answered']} of {jobs} jobs were answered; the books are {report['audit']}"))


@app.command("swarm")
def swarm_(
    providers: Annotated[int, typer.Option(min=4, max=256, help="The largest number of providers.")] = 64,
    as_json: Json = False,
) -> None:
    """Map jobs over 1, 4, 16 and more providers and measure the speed-up, also with slow and failing providers.

    Everything but the compute is the real program; each engine sleeps 0.8 s per job and runs one job at a time.
    """
    from pylon.bench.swarm import SwarmPlan, swarm

    report = _measured(lambda: swarm(SwarmPlan(providers), _say), as_json)
    _print(report, as_json)
    if report["missing"]:
        fail(JobsFailedError(f"{report['missing']} jobs got no answer"))


@app.command("rlm")
def rlm_(
    calls: Annotated[int, typer.Option(min=1, help="How many sub-calls the program makes.")] = 1_000,
    providers: Annotated[int, typer.Option(min=2, max=256, help="The largest number of providers.")] = 64,
    memory: Annotated[
        bool,
        typer.Option("--memory", help="Measure instead the peak memory of a run, by the length of its text."),
    ] = False,
    chars: Annotated[
        int, typer.Option(min=1_000, help="With --memory: the length of the text, in characters.")
    ] = 40_000_000,
    as_json: Json = False,
) -> None:
    """Measure an RLM's sub-calls on 1, 4, 16 and 64 providers against the paper's engine on one.

    Compute is simulated: a sub-call sleeps 0.8 s. The paper's engine is the package rlms (install it with
    ./scripts/setup --dev). docs/benchmarks.md explains each figure.
    """
    # Imported late as well: sandboxes and a whole core come with it.
    from pylon.bench import rlm, rlm_memory

    if memory:
        _print(_measured(lambda: rlm_memory.bench(chars, _say), as_json), as_json)
        return
    report = _measured(lambda: rlm.bench(rlm.RlmPlan(calls, providers), _say), as_json)
    _print(report, as_json)
    if report["missing"]:
        fail(JobsFailedError(f"{report['missing']} sub-calls got no answer"))


def _measured(work: Callable[[], Measuring], as_json: bool) -> dict[str, Any]:
    """Runs a benchmark and returns its report. Ctrl-C and the other signals that end a command end its processes.

    `work` makes the plan as well, so that an impossible plan is reported like every other error.
    """

    async def measured() -> dict[str, Any]:
        try:
            with ended_as_by_ctrl_c():
                return await work()
        except asyncio.CancelledError:
            fail(InterruptError("interrupted"), as_json=as_json)

    return run(measured(), as_json=as_json)


def _print(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    made = table("figure", ">")
    for name, value in report.items():
        made.add_row(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    out.print(made)


def _print_versus(report: dict[str, Any]) -> None:
    made = table("figure", *(f">{each['model']}" for each in report["models"]), ">counts")
    for name in [name for name in report if name != "models"]:
        made.add_row(name, *(str(each[name]) for each in report["models"]), str(report[name]))
    out.print(made)


def _say(text: str) -> None:
    err.print(f"bench: {text}", style="dim")
