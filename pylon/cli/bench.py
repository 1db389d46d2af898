"""`pylon bench`: what is measured, and how."""

from typing import Annotated, Any

import typer

from pylon.bench.fanout import MIN_PROCESSES, Fanout, fanout
from pylon.bench.needle_timing import time_chunks
from pylon.cli.output import Json, err, fail, out, print_json, run, table
from pylon.errors import JobsFailedError, PylonError

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
    if as_json:
        print_json(report)
    else:
        made = table("figure", ">")
        for name, value in report.items():
            made.add_row(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        out.print(made)
    if report["completed"] != report["jobs"]:
        fail(JobsFailedError(f"{report['jobs'] - report['completed']} of {report['jobs']} jobs got no answer"))


@app.command()
def needle(
    repeats: Annotated[int, typer.Option(min=1, help="Chunks to read; the median is shown.")] = 8,
    as_json: Json = False,
) -> None:
    """Time how long one core takes to read a chunk of 500 tokens with needle-1, in milliseconds.

    MLX with its own BLAS, MLX over OpenBLAS where that is installed, and llama.cpp in the development set-up.
    """
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


async def _fanout(plan: Fanout) -> dict[str, Any]:
    return await fanout(plan, lambda text: err.print(f"bench: {text}", style="dim"))
