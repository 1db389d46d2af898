"""Files of prompts in, files of results out: JSONL, CSV, or a prompt a line."""

import csv
import os
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson
import typer

from pylon.cli import stdin

_JSON_LINES, _TEXT = frozenset({".jsonl", ".ndjson"}), frozenset({".txt", ".md"})
# As long a prompt as any file may hold; the node says what is too large for a job.
_MOST_CHARACTERS = 2**31 - 1
# What a CSV of results holds.
_COLUMNS = ("index", "text", "provider", "model", "sha256", "paid_msat", "attempts", "verified", "error")


def read_jobs(file: Path, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The jobs in a file; what a line says goes over the command's options. Raises `BadParameter`."""
    # What spreadsheets save begins with a byte order mark.
    stream = TextIOWrapper(_opened(file), encoding="utf-8-sig", newline="")
    read = _csv_jobs if file.suffix.lower() == ".csv" else _line_jobs
    number = 0
    with stream:
        try:
            for number, job in read(stream, file.suffix.lower()):  # noqa: B007 - of the last that was good
                yield {**options, **job}
        except UnicodeDecodeError as error:
            # It is read in blocks: all that is known is which lines were good.
            where = f" somewhere after line {number}" if number else ""
            raise _bad(f"this is not UTF-8 text{where}") from error
        except csv.Error as error:
            raise _bad(f"the CSV cannot be read after line {number}: {error}") from error
        except OSError as error:
            raise _bad(f"{file} cannot be read: {error.strerror}") from error


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        stream = stdin.binary()
        if stream is None:
            raise _bad("there is no standard input")
        return stream
    try:
        return file.open("rb")
    except OSError as error:
        raise _bad(f"{file} cannot be read: {error.strerror}") from error


def _bad(what: str) -> typer.BadParameter:
    return typer.BadParameter(what, param_hint="FILE")


def _line_jobs(stream: TextIO, suffix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(stream, 1):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        # Standard input has no ending: there a line that begins as JSON does is meant as such.
        json = suffix in _JSON_LINES or (suffix not in _TEXT and text.startswith("{"))
        yield number, _json_line(text, number) if json else {"prompt": text}


def _json_line(line: str, number: int) -> dict[str, Any]:
    try:
        job = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _bad(f"line {number} is not valid JSON") from error
    if not isinstance(job, dict):
        raise _bad(f"line {number} is not a JSON object")
    if "prompt" not in job:
        raise _bad(f"line {number} has no `prompt`")
    if not isinstance(job["prompt"], str):
        raise _bad(f"line {number} has a `prompt` that is no text")
    return job


def _csv_jobs(stream: TextIO, suffix: str) -> Iterator[tuple[int, dict[str, Any]]]:  # noqa: ARG001 - as of lines
    # A prompt may be longer than the 131,072 characters that the module takes by itself.
    csv.field_size_limit(_MOST_CHARACTERS)
    rows = csv.DictReader(stream)
    if "prompt" not in (rows.fieldnames or ()):
        raise _bad("the CSV has no column named prompt")
    for row in rows:
        if row["prompt"] is None:
            raise _bad(f"line {rows.line_num} has no prompt: it has fewer columns than the first")
        yield rows.line_num, {"prompt": row["prompt"]}


def check_output(file: Path) -> None:
    """Whether results can be written there: seen before anything is asked and paid. Raises `BadParameter`."""
    if file.exists() and not (file.is_file() or file.is_dir()):
        # A pipe or a terminal.
        return
    if file.is_dir() or not file.parent.is_dir():
        what = "a folder" if file.is_dir() else "no file of a folder that exists"
        raise typer.BadParameter(f"{file} is {what}", param_hint="--output")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{file.parent} cannot be written to", param_hint="--output")


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
    """The rows as a file, in whose place nothing half-written ever stands. Raises `OSError`."""
    if file.exists() and not file.is_file():
        # A pipe or a terminal is written to, not put away for a file.
        with file.open("w", encoding="utf-8", newline="") as stream:
            write_rows(outcomes, stream, as_csv=file.suffix == ".csv")
        return
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("w", encoding="utf-8", newline="") as stream:
        write_rows(outcomes, stream, as_csv=file.suffix == ".csv")
    fresh.replace(file)
