"""Reads the prompts of `pylon map` from a file, and writes its results."""

import csv
import os
import shlex
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson
import typer
from rich.text import Text

from pylon.cli import stdin
from pylon.cli.output import out
from pylon.cli.prompt_forms import TABLES, FormError, reader_of
from pylon.cli.whole_file import whole_file
from pylon.errors import UsageError
from pylon.jobs.size import text_bytes
from pylon.node.calls.params import MOST_JOBS
from pylon.text import as_cell, clean_line

# A node keeps all prompts in memory while the run lasts.
_MOST_BYTES = 128 * 1024 * 1024
# The columns of a CSV file of results.
_COLUMNS = ("index", "id", "text", "provider", "model", "sha256", "paid_msat", "attempts", "verified", "error")


def read_jobs(file: Path, options: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The jobs in a file, each with the line where it ends. Fields of a line override the command's `options`.

    Empty prompts, and those that are too large for an event, are included: the node reports them in their places.
    Raises `UsageError` with file and line.
    """
    name, suffix = "standard input" if str(file) == "-" else str(file), file.suffix.lower()
    number = 0
    try:
        # Files that spreadsheets save begin with a byte order mark.
        with TextIOWrapper(_opened(file), encoding="utf-8-sig", newline="") as stream:
            size = 0
            for count, (number, job) in enumerate(reader_of(suffix)(stream, suffix), 1):
                size += text_bytes(job["prompt"]) if "prompt" in job else len(orjson.dumps(job["messages"]))
                if count > MOST_JOBS:
                    most = f"at most {MOST_JOBS:,} prompts"
                    raise UsageError(f"{name}:{number}: a map takes {most}", hint=_cut(file, f"NR / {MOST_JOBS}"))
                if size > _MOST_BYTES:
                    most = f"at most {_MOST_BYTES >> 20} MiB of prompts in all"
                    # A quarter of it: awk may count characters, of up to four bytes each.
                    part = f"(size += length + 1) / {_MOST_BYTES // 4}"
                    raise UsageError(f"{name}:{number}: a map takes {most}", hint=_cut(file, part))
                yield number, {**_options_for(job, options), **job}
    except FormError as error:
        raise UsageError(f"{name}{f':{error.line}' if error.line else ''}: {error}", hint=error.hint) from error
    except UnicodeDecodeError as error:
        # The file is decoded in blocks, so only the last good line is known.
        where = f" somewhere after line {number}" if number else ""
        raise UsageError(f"{name}: this is not UTF-8 text{where}", hint="Save it as UTF-8.") from error
    except OSError as error:
        hint = "Check its name and its permissions."
        raise UsageError(f"{name} cannot be read: {error.strerror}", hint=hint) from error


def _cut(file: Path, part: str) -> str:
    """How to split the file into valid parts. `part` is an awk expression for a line's part."""
    if file.suffix.lower() in TABLES:
        return "Split it into several tables, each with the header line, and map one after another."
    if file.suffix.lower() == ".json":
        return "Split it into several arrays and map one after another."
    if str(file) == "-":
        return "Pipe in one part at a time."
    # The parts need the file's ending, which says how lines are read. `split` can keep it only on Linux.
    ending = file.suffix if file.suffix[1:].isalnum() else ""
    command = f"awk '{{ print > sprintf(\"part-%03d{ending}\", {part}) }}' {shlex.quote(str(file))}"
    return f"Split it with `{command}` and map one part after another."


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        stream = stdin.binary()
        if stream is None:
            raise UsageError("standard input is closed")
        return stream
    return file.open("rb")


def _options_for(job: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The command's options, but no system message for an empty prompt: with it, the prompt would not be empty."""
    if job.get("prompt", "").strip() or job.get("messages"):
        return options
    return {name: value for name, value in options.items() if name != "system"}


def check_output(file: Path, prompts: Path) -> None:
    """Checks, before anything is asked and paid, that results can be written to the file. Raises `BadParameter`."""
    if prompts.is_file() and file.exists() and file.samefile(prompts):
        raise typer.BadParameter(f"{file} is the prompts file, and would be overwritten", param_hint="--output")
    if file.exists() and not (file.is_file() or file.is_dir()):
        # A pipe or a terminal.
        return
    if file.is_dir() or not file.parent.is_dir():
        what = "a folder" if file.is_dir() else "not a file in an existing folder"
        raise typer.BadParameter(f"{file} is {what}", param_hint="--output")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{file.parent} is not writable", param_hint="--output")


def with_ids(outcomes: list[dict[str, Any]], ids: dict[int, str | float]) -> list[dict[str, Any]]:
    """The outcomes, each with the `id` of its line. `ids` has the ids by the index of the prompt."""
    if not ids:
        return outcomes
    named = ({"id": ids[row["index"]]} if row["index"] in ids else {} for row in outcomes)
    return [{"index": row["index"], **name, **row} for row, name in zip(outcomes, named, strict=True)]


def write_rows(outcomes: list[dict[str, Any]], stream: TextIO, *, as_csv: bool) -> None:
    """Writes a row for each outcome, in order."""
    if as_csv:
        writer = csv.DictWriter(stream, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for outcome in outcomes:
            error = outcome["error"]
            verified = " ".join(outcome.get("verified", ()))
            # A stranger may have chosen the model's name to be a formula. The answer itself is written as it is, for
            # programs to read.
            model = as_cell(outcome.get("model") or "")
            writer.writerow({**outcome, "model": model, "verified": verified, "error": error and error["message"]})
        return
    for outcome in outcomes:
        stream.write(orjson.dumps(outcome).decode() + "\n")


def print_answers(outcomes: list[dict[str, Any]]) -> None:
    """Prints each outcome on one line of the terminal."""
    digits = len(str(len(outcomes) - 1))
    for outcome in outcomes:
        said = outcome["text"] if outcome["error"] is None else f"no answer: {outcome['error']['message']}"
        line = Text(clean_line(f"{outcome['index']:>{digits}}  {said}"))
        line.truncate(out.width, overflow="ellipsis")
        out.print(line)


def write_file(outcomes: list[dict[str, Any]], file: Path) -> None:
    """Writes the outcomes to a file, completely or not at all. Raises `OSError`."""
    with whole_file(file) as stream:
        write_rows(outcomes, stream, as_csv=file.suffix == ".csv")
