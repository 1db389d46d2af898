"""The customer's commands: `ask`, `map`, `providers`."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pylon.cli.output import Json, err, fail, out, print_json, run, short, table
from pylon.errors import JobsFailedError
from pylon.node.control import Event, result_of
from pylon.node.home import open_home
from pylon.node.session import open_node

Model = Annotated[str | None, typer.Option(help="A model's id, or sha256:… of its weights (default: any).")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="The longest answer, in tokens.")]
Temperature = Annotated[float | None, typer.Option(min=0, max=2, help="0 is greedy.")]
Timeout = Annotated[float | None, typer.Option(min=1, help="Seconds for each job (default: customer.timeout_s).")]
System = Annotated[str | None, typer.Option(help="A system message in front of every prompt.")]


def ask(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    system: System = None,
    model: Model = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Send one prompt to a provider and print its answer."""
    text = sys.stdin.read() if prompt == "-" else prompt
    run(_ask({"prompt": text, **_options(system, model, max_tokens, temperature)}, timeout, as_json), as_json=as_json)


async def _ask(job: dict[str, Any], timeout: float | None, as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        result = await result_of(node, "map", {"jobs": [job], "timeout_s": timeout})
    outcome = result["outcomes"][0]
    if as_json:
        print_json(outcome)
    elif outcome["error"] is None:
        sys.stdout.write(outcome["text"] + "\n")
        err.print(f"{short(outcome['provider'])} {outcome['model']}, {outcome['latency_ms']} ms", style="dim")
    if outcome["error"] is not None:
        # The object with the error is printed already.
        fail(JobsFailedError(f"no answer: {outcome['error']['message']}", hint=outcome["error"]["hint"]))


def map_(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL with a `prompt` a line, CSV with a `prompt` column, or a prompt a line; - is standard input."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where results go (default: standard output).")
    ] = None,
    system: System = None,
    model: Model = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Send many prompts out at once; results come back in order, one JSON object a line.

    Each line holds the prompt's `index` and either `text`, `provider`, `model`, `sha256`, `usage` and timings, or
    an `error`. With --json, one object with all of them and a summary is printed instead.
    """
    jobs = list(_read_jobs(file, _options(system, model, max_tokens, temperature)))
    if not jobs:
        raise typer.BadParameter("there is no prompt in it", param_hint="FILE")
    run(_map(jobs, output, timeout, as_json), as_json=as_json)


async def _map(jobs: list[dict[str, Any]], output: Path | None, timeout: float | None, as_json: bool) -> None:
    home, config = open_home()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    result: dict[str, Any] = {}
    with Progress(*columns, console=err, disable=as_json or not err.is_terminal) as progress:
        task = progress.add_task("asking", total=len(jobs))
        async with open_node(home, config) as node:
            async for answer in node.call("map", {"jobs": jobs, "timeout_s": timeout}):
                if isinstance(answer, Event):
                    flight = f"{answer.data['in_flight']} in flight, {answer.data['providers']} providers"
                    progress.update(task, completed=answer.data["done"], description=flight)
                else:
                    result = answer.data
    _write(result, output, as_json)
    failed = result["jobs"] - result["answered"]
    err.print(_summary(result), style="dim")
    if failed:
        fail(
            JobsFailedError(
                f"{failed} of {result['jobs']} jobs got no answer",
                hint="Their lines say why; the others are printed.",
            )
        )


def _write(result: dict[str, Any], output: Path | None, as_json: bool) -> None:
    if output is not None:
        with output.open("w", encoding="utf-8") as stream:
            _lines(result["outcomes"], stream)
    if as_json:
        print_json(result)
    elif output is None:
        _lines(result["outcomes"], sys.stdout)


def _lines(outcomes: list[dict[str, Any]], stream: TextIO) -> None:
    for outcome in outcomes:
        stream.write(orjson.dumps(outcome).decode() + "\n")


def _summary(result: dict[str, Any]) -> str:
    rate = result["answered"] / result["wall_s"] if result["wall_s"] else 0.0
    return (
        f"{result['answered']} of {result['jobs']} answered by {len(result['providers'])} providers"
        f" in {result['wall_s']:.1f} s ({rate:.1f}/s, p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms)"
    )


def providers(
    wait: Annotated[float, typer.Option(min=0, help="Seconds to listen before printing.")] = 2.0,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """List the providers that are alive: what they run, how fast, how busy."""
    run(_providers(wait, model, as_json), as_json=as_json)


async def _providers(wait: float, model: str | None, as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        data = await result_of(node, "providers", {"wait_s": wait, "model": model})
    if as_json:
        print_json(data)
        return
    if not data["providers"]:
        out.print("no provider is alive on " + ", ".join(config.relays) + "\n  `pylon start` makes this machine one")
        return
    made = table("provider", "name", "model", ">free", ">slots", ">tokens/s", ">queue", "state")
    for row in data["providers"]:
        speed = f"{row['tokens_out_per_s']:.0f}"
        slots = (str(row["slots_free"]), str(row["slots"]), speed, f"{row['queue_s']:.0f} s")
        made.add_row(row["npub"][:20] + "…", row["name"], ", ".join(row["models"]), *slots, row["state"])
    out.print(made)


def _options(
    system: str | None, model: str | None, max_tokens: int | None, temperature: float | None
) -> dict[str, Any]:
    given = {"system": system, "model": model, "max_tokens": max_tokens, "temperature": temperature}
    return {name: value for name, value in given.items() if value is not None}


def _read_jobs(file: Path, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The jobs in a file; what a line says goes over the command's options."""
    try:
        stream = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="FILE") from error
    with stream:
        if file.suffix == ".csv":
            yield from _read_csv(stream, options)
            return
        for number, line in enumerate(stream, 1):
            text = line.rstrip("\n")
            if not text.strip():
                continue
            yield {**options, **(_json_line(text, number) if _is_jsonl(file, text) else {"prompt": text})}


def _is_jsonl(file: Path, line: str) -> bool:
    return file.suffix in (".jsonl", ".ndjson") or line.startswith("{")


def _json_line(line: str, number: int) -> dict[str, Any]:
    try:
        job = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"line {number} is not valid JSON", param_hint="FILE") from error
    if not isinstance(job, dict) or not isinstance(job.get("prompt"), str):
        raise typer.BadParameter(f"line {number} has no `prompt`", param_hint="FILE")
    return job


def _read_csv(stream: TextIO, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows = csv.DictReader(stream)
    if "prompt" not in (rows.fieldnames or ()):
        raise typer.BadParameter("the CSV has no column named prompt", param_hint="FILE")
    for row in rows:
        yield {**options, "prompt": row["prompt"]}
