"""Files of prompts in, files of results out: JSONL, CSV, or a prompt a line."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import orjson
import typer

# What a CSV of results holds besides the columns of the prompts' own file.
_COLUMNS = ("index", "text", "provider", "model", "sha256", "paid_msat", "attempts", "verified", "error")


def read_jobs(file: Path, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
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


def write_rows(outcomes: list[dict[str, Any]], stream: TextIO, *, as_csv: bool) -> None:
    """A row an outcome, in order."""
    if as_csv:
        writer = csv.DictWriter(stream, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for outcome in outcomes:
            error = outcome["error"]
            verified = " ".join(outcome.get("verified", ()))
            writer.writerow({**outcome, "verified": verified, "error": error and error["message"]})
        return
    for outcome in outcomes:
        stream.write(orjson.dumps(outcome).decode() + "\n")


def write_file(outcomes: list[dict[str, Any]], file: Path) -> None:
    """The rows as a file, in whose place nothing half-written ever stands."""
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("w", encoding="utf-8", newline="") as stream:
        write_rows(outcomes, stream, as_csv=file.suffix == ".csv")
    fresh.replace(file)


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
