"""The sub-calls of a run as a table: a row for each call that its code made, whatever its outcome."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pylon.nostr.bech32.nip19 import shown_key
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Event
from pylon.text import as_cell

type Row = dict[str, Any]

COLUMNS = (
    "run", "call", "loop", "turn", "kind", "state", "code", "finish", "asked_model", "seed", "model", "sha256",
    "provider", "prompt_tokens", "completion_tokens", "paid_msat", "queue_ms", "run_ms", "latency_ms", "wall_ms",
    "attempts", "verified", "prompt_sha256", "prompt_chars", "answer_sha256", "answer_chars", "request_id",
    "result_id", "sent_at",
)  # fmt: skip
_OF_ANSWERS = (
    "finish", "model", "sha256", "prompt_tokens", "completion_tokens", "queue_ms", "run_ms", "latency_ms", "attempts",
    "request_id", "result_id",
)  # fmt: skip


def call_rows(run: Run) -> list[Row]:
    """A row for each call, in the order in which the code made them; what is not known of a call is None.

    `state` is `answered`, `failed`, `refused` (never sent: over the budget, or its cell was ended), `repeated`
    (shares the outcome of an equal one) or `lost` (the run died before it returned). `wall_ms` is the time from
    sending to outcome, `latency_ms` that of the attempt that was answered.
    """
    rows: dict[str, Row] = {}
    for event in run.events():
        if event["type"] in ("submitted", "repeated", "returned"):
            row = rows.setdefault(event["call"], _begun(run, event))
            row.update(_known(event, row))
    return sorted(rows.values(), key=lambda row: call_place(row["call"]))


def call_place(call: str) -> tuple[int, ...]:
    """A sort key for the names of calls, so that `0/c2.11` comes after `0/c2.9`."""
    return tuple(map(int, re.findall(r"[0-9]+", call)))


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of the CSV, beginning with the names of the columns. Unknown values are empty; several checks are
    separated by blanks."""
    for cells in (COLUMNS, *([row[name] for name in COLUMNS] for row in rows)):
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(map(_cell, cells))
        yield line.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(value)
    # The names of models come from strangers, and a spreadsheet may run them as formulas.
    return as_cell(value) if isinstance(value, str) else "" if value is None else value


def _begun(run: Run, event: Event) -> Row:
    prompt = event["prompt"]
    known = {"run": run.id, "call": event["call"], "loop": event["loop"], "turn": event["turn"]}
    known |= {"prompt_sha256": prompt["sha256"], "prompt_chars": prompt["chars"]}
    return {name: known.get(name) for name in COLUMNS}


def _known(event: Event, row: Row) -> Row:
    match event["type"]:
        case "submitted":
            sent = {"kind": event["kind"], "asked_model": event["model"], "seed": event.get("seed")}
            return {**sent, "state": "lost", "sent_at": event["at"]}
        case "repeated":
            return {"kind": "llm", "state": "repeated", "asked_model": event.get("model")}
    sent_at = row["sent_at"]
    known: Row = {"wall_ms": None if sent_at is None else round(1_000 * (event["at"] - sent_at))}
    if "code" in event:
        state = "refused" if sent_at is None else "failed"
        return {**known, "state": state, "code": event["code"], "attempts": event["attempts"]}
    known |= {name: event[name] for name in _OF_ANSWERS if event.get(name) not in (None, "")}
    # The answer of a child loop has no provider.
    known |= {"provider": shown_key(event["provider"]) or None, "paid_msat": event.get("msat")}
    answer = event["text"]
    known |= {"answer_sha256": answer["sha256"], "answer_chars": answer["chars"], "verified": event["verified"]}
    return {**known, "state": "answered"}
