"""`pylon rlm show`: a run in words, from its trajectory."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.text import Text

from pylon.cli.output import ago, out, short
from pylon.cli.rlm_report import summary
from pylon.cli.running import print_json, run
from pylon.money.msat import sats_text
from pylon.money.network import Network
from pylon.node.home import open_home
from pylon.rlm import runs
from pylon.rlm.loop_state import in_words
from pylon.rlm.progress import CANCELLED
from pylon.rlm.trajectory import Event
from pylon.text import clean_line, counted

RunId = Annotated[str, typer.Argument(help="A run's id or its beginning; `last` is the newest run.")]


def show(
    name: RunId = "last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the raw events, one JSON object per line.")] = False,
) -> None:
    """Show a run: its question, answer and cost, then its events."""
    run(_show(name, follow, as_json), as_json=as_json)


async def _show(name: str, follow: bool, as_json: bool) -> None:
    home, config = open_home()
    unit = Network(config.network).unit
    found = runs.find_run(home.runs, name)
    events = found.follow() if follow else found.checked_events()
    if as_json:
        for event in events:
            print_json(event)
        return
    if not follow:
        for line in _head(found, unit):
            out.print(line)
    for since, line in _lines(found, events, unit):
        _print_cut(f"{ago(since):>8}  {line}")


def _head(found: runs.Run, unit: str) -> list[str]:
    """Question, answer and cost of a run. Empty for a damaged one: its events name the line at fault."""
    row = runs.list_row(found)
    if row["state"] == "damaged":
        return []
    question, answer = "", "no answer"
    for event in found.events():
        if event["type"] == "run":
            question = found.text(event["question"])
        elif event["type"] == "final" and event["answer"] is not None:
            answer = found.text(event["answer"])
    state = f"partial, {in_words(row['reason'])}" if row["partial"] else row["state"]
    return [question, "", answer, "", f"{state}; {summary(row, unit)}", ""]


def _print_cut(text: str) -> None:
    """Prints lines: whole to a file, and each cut at the edge of a terminal."""
    for line in text.split("\n"):
        shown = Text(clean_line(line))
        if out.is_terminal:
            shown.truncate(out.width, overflow="ellipsis")
        out.print(shown)


def _lines(found: runs.Run, events: Iterable[Event], unit: str) -> Iterator[tuple[float, str]]:
    """For each event the seconds since the run began, and a line on it. Calls cancelled together share one line."""
    begun = None
    for cancelled, group in groupby(events, _is_cancelled):
        together = 0
        for event in group:
            begun = event["at"] if begun is None else begun
            together += 1
            if not cancelled:
                yield event["at"] - begun, _line(found, event, unit)
        if cancelled:
            many = f"  ✗ {together:,} sub-calls cancelled: {event['message']}"
            yield event["at"] - begun, many if together > 1 else _line(found, event, unit)


def _is_cancelled(event: Event) -> bool:
    return event["type"] == "returned" and event.get("code") == CANCELLED


def _line(found: runs.Run, event: Event, unit: str) -> str:
    """What one event says. `unit` is the unit of money (`Network.unit`)."""
    where = f"{event['loop']} turn {event['turn']}" if "turn" in event else event.get("loop", "")
    match event["type"]:
        case "run":
            return f"{event['strategy']}: {event['question']['preview']}{_resumed(event.get('before'), unit)}"
        case "loop":
            return f"loop {where} begins, depth {event['depth']}"
        case "turn":
            return f"{where}: {event['model']} said {event['reply']['chars']:,} characters in {event['ms']:,} ms"
        case "cell":
            error = f"\n{event['error']['kind']}: {event['error']['text']}" if event["error"] else ""
            printed = _indented(found.text(event["stdout"]) + error)
            return f"{where}: a cell ran {event['wall_s']:.1f} s{printed and chr(10)}{printed}"
        case "submitted":
            return f"  → {event['call']} {event['kind']}: {first_words(event['prompt']['preview'])}"
        case "repeated":
            return f"  = {event['call']} was asked before"
        case "returned" if "code" in event:
            return f"  ✗ {event['call']} {event['code']}: {event['message']}"
        case "returned":
            # The answer of a child loop has no provider.
            who = f"{short(event['provider'])} " if event["provider"] else ""
            told = f"{who}{event['model']}, {sats_text(event['msat'], unit)}"
            return f"  ← {event['call']} {first_words(event['text']['preview'])} ({told})"
        case "final":
            answer = "no answer" if event["answer"] is None else found.text(event["answer"])
            return f"{'partial, ' if event['partial'] else ''}{in_words(event['reason'])}: {answer}"
        case "budget":
            spent = event["spent"]
            used = f"{counted(spent['calls'], 'sub-call')}, {spent['tokens']:,} tokens"
            return f"{where}: so far {used}, {sats_text(spent['msat'], unit)}"
        case "charged":
            return f"{where}: {sats_text(event['msat'], unit)} also charged"
        case "reserved":
            return f"{where}: up to {sats_text(event['msat'], unit)} reserved"
        case "settled":
            return f"{where}: the reserved amount is settled"
        case "cut":
            return f"{where}: from here on the run differs from the earlier one"
        case "shown":
            return f"{where}: the root is told {counted(event['text']['chars'], 'character')}"
        case kind:
            return f"{where}: {kind}"


def _resumed(before: dict[str, Any] | None, unit: str) -> str:
    """What a resumed run had used before; empty for one that was not resumed."""
    if not before:
        return ""
    spent = before["spent"]
    so_far = f"{counted(spent['calls'], 'sub-call')}, {sats_text(spent['msat'], unit)}"
    return f"\n          (resumed after {before['seconds']:,.0f} s, {so_far})"


def first_words(text: str) -> str:
    """The first hundred characters, on one line."""
    return " ".join(text.split())[:100]


def _indented(text: str) -> str:
    """What a cell printed, 40 lines at most."""
    return "\n".join(f"            {line}" for line in text.rstrip().splitlines()[:40])
