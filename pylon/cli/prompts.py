"""Files of prompts in, files of results out: JSONL, CSV, or a prompt a line."""

import csv
import os
import shlex
from collections.abc import Iterator
from dataclasses import fields
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson
import typer

from pylon.cli import stdin
from pylon.cli.whole_file import whole_file
from pylon.errors import UsageError
from pylon.jobs.size import text_bytes
from pylon.node.calls.params import MOST_JOBS
from pylon.swarm.job import JobSpec
from pylon.text import as_cell

_JSON_LINES, _TEXT = frozenset({".jsonl", ".ndjson"}), frozenset({".txt", ".md"})
# As long a prompt as any file may hold; the node says what is too large for a job.
_MOST_CHARACTERS = 2**31 - 1
_FORMS = """A line of JSONL is {"prompt": "…"}; a CSV has a column named prompt; a text file has a prompt a line."""
# A node holds them for as long as the run lasts.
_MOST_BYTES = 128 * 1024 * 1024
_FIELDS = frozenset(field.name for field in fields(JobSpec))
# Lines may name themselves.
_FOR_READERS = frozenset({"index", "id"})
# What a CSV of results holds.
_COLUMNS = ("index", "text", "provider", "model", "sha256", "paid_msat", "attempts", "verified", "error")


def read_jobs(file: Path, options: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The jobs in a file, each with the line where it ends; what a line says goes over the command's options.

    A prompt that no event carries and one that is empty are among them: the node says so in their places. Raises
    `UsageError` that names file and line.
    """
    read = _csv_jobs if file.suffix.lower() == ".csv" else _line_jobs
    name = "standard input" if str(file) == "-" else str(file)
    number = 0
    try:
        # What spreadsheets save begins with a byte order mark.
        with TextIOWrapper(_opened(file), encoding="utf-8-sig", newline="") as stream:
            size = 0
            for count, (number, job) in enumerate(read(stream, file.suffix.lower()), 1):
                size += text_bytes(job["prompt"])
                if count > MOST_JOBS:
                    most = f"{MOST_JOBS:,} prompts at most"
                    raise UsageError(f"{name}:{number}: a map takes {most}", hint=_cut(file, f"NR / {MOST_JOBS}"))
                if size > _MOST_BYTES:
                    most = f"prompts of {_MOST_BYTES >> 20} MiB together at most"
                    # Less than that: letters may count once where a prompt's bytes count.
                    part = f"(size += length + 1) / {_MOST_BYTES // 4}"
                    raise UsageError(f"{name}:{number}: a map takes {most}", hint=_cut(file, part))
                yield number, {**_options_for(job, options), **job}
    except _FileError as error:
        raise UsageError(f"{name}{f':{error.line}' if error.line else ''}: {error}", hint=error.hint) from error
    except UnicodeDecodeError as error:
        # It is read in blocks: all that is known is which lines were good.
        where = f" somewhere after line {number}" if number else ""
        raise UsageError(f"{name}: this is not UTF-8 text{where}", hint="Save it as UTF-8.") from error
    except csv.Error as error:
        raise UsageError(f"{name}: the CSV cannot be read after line {number}: {error}", hint=_FORMS) from error
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error


def _cut(file: Path, part: str) -> str:
    """How to make several files of it, each of which is a whole one; `part` has awk number them."""
    if file.suffix.lower() == ".csv":
        return "Make several CSVs of it, each with its first line, and map one after another."
    if str(file) == "-":
        return "Pipe in a part of it at a time."
    # The ending says how lines are read. `split` keeps it on Linux alone.
    ending = file.suffix if file.suffix[1:].isalnum() else ""
    command = f"awk '{{ print > sprintf(\"part-%03d{ending}\", {part}) }}' {shlex.quote(str(file))}"
    return f"Map one part after another; `{command}` cuts it up."


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        stream = stdin.binary()
        if stream is None:
            raise UsageError("there is no standard input")
        return stream
    return file.open("rb")


def _options_for(job: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The command's options, without its system prompt for a row that asks nothing: that would make it a question."""
    if job["prompt"].strip() or job.get("messages"):
        return options
    return {name: value for name, value in options.items() if name != "system"}


def _plain(text: str, number: int) -> str:
    """What stands in a file as it is. JSON may say `\\u0000`, which an event carries."""
    if "\0" in text:
        raise _FileError("this holds NUL bytes, and so is no text, or not UTF-8", number)
    return text


class _FileError(Exception):
    """What is wrong with the file, and in which line, if that is known."""

    def __init__(self, what: str, line: int = 0, *, hint: str = _FORMS) -> None:
        super().__init__(what)
        self.line = line
        self.hint = hint


def _line_jobs(stream: TextIO, suffix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(stream, 1):
        text = _plain(line.rstrip("\r\n"), number)
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
    if unknown := sorted(job.keys() - _FIELDS - _FOR_READERS):
        like = get_close_matches(unknown[0], _FIELDS, n=1)
        meant = f"; did you mean `{like[0]}`?" if like else ""
        hint = f"A line may have {', '.join(sorted(_FIELDS))}."
        raise _FileError(f"jobs have no field {', '.join(map(repr, unknown))}{meant}", number, hint=hint)
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
        yield rows.line_num, {"prompt": _plain(row["prompt"], rows.line_num)}


def check_output(file: Path, prompts: Path) -> None:
    """Whether results can be written there: seen before anything is asked and paid. Raises `BadParameter`."""
    if prompts.is_file() and file.exists() and file.samefile(prompts):
        raise typer.BadParameter(f"{file} is the file of prompts, which would be gone", param_hint="--output")
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
            # Strangers name models. The text is theirs too, and stays what was answered: programs read it.
            model = as_cell(outcome.get("model") or "")
            writer.writerow({**outcome, "model": model, "verified": verified, "error": error and error["message"]})
        return
    for outcome in outcomes:
        stream.write(orjson.dumps(outcome).decode() + "\n")


def write_file(outcomes: list[dict[str, Any]], file: Path) -> None:
    """The rows as a file, in whose place nothing half-written ever stands. Raises `OSError`."""
    with whole_file(file) as stream:
        write_rows(outcomes, stream, as_csv=file.suffix == ".csv")
