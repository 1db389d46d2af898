"""Trajectories of the RLM's runs, for the page: the list of runs, a run's events, and the texts that they name."""

from pathlib import Path
from typing import Any

import orjson

from pylon.errors import UsageError
from pylon.gateway.problems import Problem
from pylon.nostr.event import is_hex64
from pylon.rlm.runs import Run, find_run, run_ids, summary
from pylon.rlm.viewer import export_rlm

# The most of each that one response has: runs, events of a run, characters of a text.
_RUNS = 50
MOST_EVENTS = 500
MOST_CHARS = 100_000

type Json = dict[str, Any]


def listed(folder: Path) -> list[Json]:
    """Summaries of the newest runs. A folder is left out if it is being deleted, is not a run, or its name is not
    UTF-8.
    """
    found: list[Json] = []
    for name in run_ids(folder)[:_RUNS]:
        try:
            name.encode()
            found.append(summary(Run(folder / name)))
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            continue
    return found


def shown(folder: Path, name: str, after: int) -> Json:
    """A run, and its events from the `after`th on; `more` tells that there are further ones, `final` is how it ended.
    Raises `Problem`.
    """
    run = _find(folder, name)
    events: list[Json] = []
    more, final = False, None
    for place, event in enumerate(run.events()):
        if event["type"] == "final":
            final = event
        if len(events) == MOST_EVENTS:
            more = True
        elif place >= after:
            events.append(event)
    return {**summary(run), "final": final, "events": events, "more": more, "next": after + len(events)}


def text(folder: Path, name: str, sha256: str) -> str:
    """A text that an event names, cut after `MOST_CHARS` characters. Raises `Problem` (404)."""
    run = _find(folder, name)
    if not is_hex64(sha256):
        raise Problem(404, "not_found", "a text is named by 64 hexadecimal digits")
    found = run.text({"sha256": sha256, "preview": ""})
    rest = len(found) - MOST_CHARS
    return found if rest <= 0 else f"{found[:MOST_CHARS]}\n… and {rest:,} more characters"


def exported(folder: Path, name: str) -> bytes:
    """The run as JSONL, in the format that the viewer of `rlms` reads. Raises `Problem` (404)."""
    return b"".join(orjson.dumps(line) + b"\n" for line in export_rlm(_find(folder, name)))


def _find(folder: Path, name: str) -> Run:
    try:
        # Only by its whole name: a prefix that is unique today may match another run tomorrow.
        if name not in run_ids(folder):
            raise UsageError(f"there is no run {name[:60]!r}")
        return find_run(folder, name)
    except UsageError as error:
        raise Problem(404, "not_found", str(error)) from error
