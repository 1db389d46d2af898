"""Reads prompts from text, JSONL, a JSON array, CSV or TSV.

Each reader takes an open file and yields its jobs, each with the number of the line where it ends. Anything ambiguous
is refused with its line: a prompt that is read wrongly would still be asked and paid.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TextIO

import orjson

from pylon.swarm.job import JobSpec

type Jobs = Iterator[tuple[int, dict[str, Any]]]

# The endings of tables, with the delimiter of their cells.
TABLES = {".csv": ",", ".tsv": "\t"}
FORMS = (
    'Use JSONL with a {"prompt": "…"} object per line, a JSON array of such objects or of '
    "strings, a CSV or TSV with a column named prompt, or a text file with one prompt per line."
)
_JSON_LINES, _TEXT = frozenset({".json", ".jsonl", ".ndjson"}), frozenset({".txt", ".md"})
# The longest cell of a table. It is no limit in practice: the node refuses prompts that are too large for a job.
_MOST_CHARACTERS = 2**31 - 1
# The most characters of an array after its first line. Unlike lines, an array is read whole.
_MOST_ARRAY = 256 * 1024 * 1024
# When a table has no column `prompt`, so many of its columns are named, each with so many letters.
_NAMED, _LETTERS = 8, 30
_BLANKS = re.compile(r"[ \t\r\n]*")
_FIELDS = frozenset(field.name for field in fields(JobSpec))
# Fields that are allowed, and are not sent: they only name the line.
_FOR_READERS = frozenset({"index", "id"})
_ARRAY = (
    "To extract an array from an object, run `jq .data FILE > prompts.json` with the array's name in place of data."
)
_BATCH = (
    "This looks like the OpenAI batch format. To convert it, run"
    " `jq -c '{id: .custom_id, messages: .body.messages}' FILE > prompts.jsonl`."
)


class FormError(Exception):
    """What is wrong with a file. `line` is 0 if it is not known."""

    def __init__(self, what: str, line: int = 0, *, hint: str = FORMS) -> None:
        super().__init__(what)
        self.line = line
        self.hint = hint


def reader_of(suffix: str) -> Callable[[TextIO, str], Jobs]:
    """The reader of files with this ending (lower case). Its iterator raises `FormError`."""
    return _table_jobs if suffix in TABLES else _line_jobs


def _plain(text: str, number: int) -> str:
    """The text, unless it holds a NUL byte. In JSON, an escaped `\\u0000` is allowed: an event can carry it."""
    if "\0" in text:
        raise FormError("the file contains NUL bytes, so it is either not text or not UTF-8", number)
    return text


def _line_jobs(stream: TextIO, suffix: str) -> Jobs:
    begun = False
    for number, line in enumerate(stream, 1):
        text = _plain(line.rstrip("\r\n"), number)
        if not text.strip():
            continue
        if not begun and _begins_array(text.strip(), suffix):
            yield from _array_jobs(line + _rest(stream), number)
            return
        begun = True
        # Standard input has no ending. There, a line that begins with { is taken as JSON.
        as_json = suffix in _JSON_LINES or (suffix not in _TEXT and text.startswith("{"))
        yield number, _json_job(text, number, hint=_ARRAY if suffix == ".json" else FORMS) if as_json else _asks(text)


def _asks(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt}


def _begins_array(line: str, suffix: str) -> bool:
    """Whether a file with this first line is a JSON array, as `json.dump` and pandas write it.

    In a text file it never is. Without a JSON ending, `[1] …` is a prompt and not an array.
    """
    if suffix in _TEXT or not line.startswith("["):
        return False
    return suffix in _JSON_LINES or line[1:].lstrip()[:1] in {"", '"', "{", "]"}


def _rest(stream: TextIO) -> str:
    text = stream.read(_MOST_ARRAY)
    if stream.read(1):
        most = f"a JSON array may be at most {_MOST_ARRAY >> 20} MiB"
        raise FormError(most, hint="Split it into several arrays and map one after another.")
    return text


def _array_jobs(text: str, line: int) -> Jobs:
    """The elements of an array: strings, or objects as in JSONL. `text` begins on line `line` of the file."""
    scan, seen = json.JSONDecoder().raw_decode, 0
    at = _over_blanks(text, text.index("[") + 1)
    while text[at : at + 1] != "]":
        try:
            _, end = scan(text, at)
        except (ValueError, RecursionError) as error:
            wrong = error.pos if isinstance(error, json.JSONDecodeError) else at
            raise FormError("this is not valid JSON", line + text.count("\n", seen, wrong)) from error
        line, seen = line + text.count("\n", seen, end), end
        yield line, _element(text[at:end], line)
        at = _over_blanks(text, end)
        if text[at : at + 1] == ",":
            at = _over_blanks(text, at + 1)
            if text[at : at + 1] == "]":
                raise FormError(
                    "there is a comma after the last element of the array", line + text.count("\n", seen, at)
                )
        elif text[at : at + 1] != "]":
            raise FormError("the JSON array is incomplete, or a comma is missing", line + text.count("\n", seen, at))
    if (rest := _over_blanks(text, at + 1)) < len(text):
        raise FormError("there is extra text after the JSON array", line + text.count("\n", seen, rest))


def _over_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return at if found is None else found.end()


def _element(written: str, number: int) -> dict[str, Any]:
    if not written.startswith('"'):
        return _json_job(written, number)
    try:
        return _asks(orjson.loads(written))
    except orjson.JSONDecodeError as error:
        raise FormError("this is not valid JSON", number) from error


def _json_job(written: str, number: int, *, hint: str = FORMS) -> dict[str, Any]:
    try:
        job = orjson.loads(written)
    except orjson.JSONDecodeError as error:
        raise FormError("this is not valid JSON", number, hint=hint) from error
    if not isinstance(job, dict):
        raise FormError("this is not a JSON object", number, hint=hint)
    if job.get("prompt") == "" and "messages" in job:
        del job["prompt"]
    if "prompt" in job and "messages" in job:
        both = "Keep one of them: `messages` is a whole chat, in place of a prompt."
        raise FormError("both `prompt` and `messages` are given", number, hint=both)
    if "prompt" not in job and "messages" not in job:
        hint = _BATCH if "custom_id" in job and "body" in job else hint
        raise FormError("`prompt` or `messages` is missing", number, hint=hint)
    if not isinstance(job.get("prompt", ""), str):
        raise FormError("`prompt` is not text", number)
    if not isinstance(job.get("messages", []), list):
        raise FormError("`messages` is not a list", number)
    if isinstance(job.get("id", ""), bool) or not isinstance(job.get("id", ""), (str, int, float)):
        raise FormError("`id` is neither a string nor a number", number)
    if unknown := sorted(job.keys() - _FIELDS - _FOR_READERS):
        like = get_close_matches(unknown[0], _FIELDS, n=1)
        meant = f"; did you mean `{like[0]}`?" if like else ""
        hint = f"A line may have {', '.join(sorted(_FIELDS))}."
        raise FormError(f"unknown field {', '.join(map(repr, unknown))}{meant}", number, hint=hint)
    return job


def _table_jobs(stream: TextIO, suffix: str) -> Jobs:
    at, width = -1, 0
    for number, row in _rows_of(stream, TABLES[suffix]):
        if not width:
            at, width = _column(row), len(row)
            continue
        if len(row) <= at:
            raise FormError("the prompt is missing: this line has fewer columns than the first", number)
        if any(row[width:]):
            hint = "Put quotes around a prompt that contains commas, tabs or line breaks."
            raise FormError("this line has more columns than the first", number, hint=hint)
        yield number, _asks(_plain(row[at], number))
    if not width:
        _column([])


def _rows_of(stream: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line where it ends."""
    # By default, the csv module takes at most 131,072 characters.
    csv.field_size_limit(_MOST_CHARACTERS)
    # Without `strict`, a stray quote would merge all rows up to the next quote into one prompt.
    rows = csv.reader(stream, delimiter=delimiter, strict=True)
    while True:
        first = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise _broken(error, first, rows.line_num) from error
        if row:
            yield rows.line_num, row


def _column(columns: list[str]) -> int:
    """The index of the column `prompt`. Raises `FormError`."""
    if columns.count("prompt") > 1:
        raise FormError("two columns are named prompt", hint="Rename one of them.")
    if "prompt" not in columns:
        named = ", ".join(f"`{name[:_LETTERS]}`" for name in columns[:_NAMED])
        more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
        has = (
            f": {'the only column is' if len(columns) == 1 else 'the columns are'} {named}{more}"
            if columns
            else ": it is empty"
        )
        hint = "The first line must name the columns, separated by commas (tabs in a TSV); one must be `prompt`."
        raise FormError(f"there is no column named prompt{has}", hint=hint)
    return columns.index("prompt")


def _broken(error: csv.Error, first: int, last: int) -> FormError:
    """What is wrong with the row from line `first` to `last`. A quote that is never closed is noticed at the end, but
    was opened on the first line."""
    hint = 'Inside a quoted cell, double each quote: "say ""hello""". Or use JSONL.'
    if "unexpected end of data" in str(error):
        return FormError("this row opens a quote that is never closed", first, hint=hint)
    begun = f", in the row that begins on line {first}" if first != last else ""
    what = "there is text after a closing quote" if "expected after" in str(error) else str(error)
    return FormError(f"{what}{begun}", last, hint=hint)
