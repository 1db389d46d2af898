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
from pylon.errors import UsageError

_JSON_LINES, _TEXT = frozenset({".jsonl", ".ndjson"}), frozenset({".txt", ".md"})
# As long a prompt as any file may hold; the node says what is too large for a job.
_MOST_CHARACTERS = 2**31 - 1
_FORMS = """A line of JSONL is {"prompt": "…"}; a CSV has a column named prompt; a text file has a prompt a line."""
# What a CSV of results holds.
_COLUMNS = ("index", "text", "provider", "model", "sha256", "paid_msat", "attempts", "verified", "error")


def read_jobs(file: Path, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The jobs in a file; what a line says goes over the command's options.

    Raises `UsageError` that names file and line.
    """
    read = _csv_jobs if file.suffix.lower() == ".csv" else _line_jobs
    name = "standard input" if str(file) == "-" else str(file)
    number = 0
    try:
        # What spreadsheets save begins with a byte order mark.
        with TextIOWrapper(_opened(file), encoding="utf-8-sig", newline="") as stream:
            for number, job in read(stream, file.suffix.lower()):  # noqa: B007 - of the last that was good
                yield {**options, **job}
    except _FileError as error:
        raise UsageError(f"{name}{f':{error.line}' if error.line else ''}: {error}", hint=_FORMS) from error
    except UnicodeDecodeError as error:
        # It is read in blocks: all that is known is which lines were good.
        where = f" somewhere after line {number}" if number else ""
        raise UsageError(f"{name}: this is not UTF-8 text{where}", hint="Save it as UTF-8.") from error
    except csv.Error as error:
        raise UsageError(f"{name}: the CSV cannot be read after line {number}: {error}", hint=_FORMS) from error
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        stream = stdin.binary()
        if stream is None:
            raise UsageError("there is no standard input")
        return stream
    return file.open("rb")


class _FileError(Exception):
    """What is wrong with the file, and in which line, if that is known."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(what)
        self.line = line


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
        raise _FileError("this is not valid JSON", number) from error
    if not isinstance(job, dict):
        raise _FileError("this is not a JSON object", number)
    if "prompt" not in job:
        raise _FileError("there is no `prompt`", number)
    if not isinstance(job["prompt"], str):
        raise _FileError("the `prompt` is no text", number)
    return job


def _csv_jobs(stream: TextIO, suffix: str) -> Iterator[tuple[int, dict[str, Any]]]:  # noqa: ARG001 - as of lines
    # A prompt may be longer than the 131,072 characters that the module takes by itself.
    csv.field_size_limit(_MOST_CHARACTERS)
    rows = csv.DictReader(stream)
    if "prompt" not in (rows.fieldnames or ()):
        raise _FileError("the CSV has no column named prompt")
    for row in rows:
        if row["prompt"] is None:
            raise _FileError("there is no prompt: this line has fewer columns than the first", rows.line_num)
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
