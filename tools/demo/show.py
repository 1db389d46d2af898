"""Prints the report of a demo: tables, lines, and the turns of the scripted root model."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pylon.nostr.bech32 import nip19
from pylon.rlm.rlm import ROOT_LOOP
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Event

out = Console(highlight=False, soft_wrap=True)

_COLUMNS = ("provider", ">sub-calls", ">tokens in", ">tokens out", ">tokens/s", ">p50 ms", ">p99 ms")
_SHOWN_CHARS = 110


def show(report: dict[str, Any]) -> None:
    """Prints the report of one question."""
    out.print(_providers(report))
    out.print(
        f"\n{report['answered']} of {report['jobs']} sub-calls answered by {report['providers']} providers running"
        f" {report['model']} in {report['wall_s']:.1f} s; {report['verified']} results verified"
    )
    out.print(f"{report['question']}  ({report['context_chars']:,} characters)")
    out.print(f"  planted {report['expected']}, answer [bold]{report['answer']}[/]")
    scripted = report["scripted"]
    out.print("\nThe same question by the whole loop. Its root model is a script, named so: none ships with Pylon.\n")
    _turns(Run(Path(scripted["trajectory"])))
    out.print(
        f"  answer [bold]{scripted['answer']}[/]: {scripted['turns']} turns in {scripted['loops']} loops,"
        f" {scripted['jobs']} prompts to the swarm, {scripted['wall_s']:.1f} s; {scripted['verified']} results"
        " verified"
    )
    _books(report)


def show_many(report: dict[str, Any]) -> None:
    """Prints the report of many questions."""
    for one in report["wrong"]:
        out.print(f"seed {one['seed']}: planted {one['expected']}, answer {one['answer']}; {one['trajectory']}")
    out.print(
        f"{report['right']} of {report['seeds']} right ({report['share']:.0%}), {report['context_chars']:,}"
        f" characters each; {report['answered']} of {report['jobs']} sub-calls answered, {report['verified']}"
        f" results verified, {report['wall_s']:.1f} s"
    )
    _books(report)


def _books(report: dict[str, Any]) -> None:
    out.print(
        f"\n{report['sats']:,.3f} {report['network']} sats for the work, out of {report['deposited_sats']:,.0f}"
        f" deposited in {report['lightning_payments']} payments; the books of all three are {report['audit']}"
    )


def _providers(report: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (*_COLUMNS, f">{report['network']} sats"):
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for public, row in report["by_provider"].items():
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        table.add_row(
            nip19.npub(public)[:20] + "…", str(row["jobs"]), f"{row['prompt_tokens']:,}",
            str(row["completion_tokens"]), f"{tokens / report['wall_s']:,.0f}",
            str(row["p50_ms"]), str(row["p99_ms"]), f"{row['paid_msat'] / 1_000:,.3f}",
        )  # fmt: skip
    return table


def _turns(run: Run) -> None:
    """Prints the turns of the root loop, and within them those of the first child loop with sub-calls."""
    events = list(run.events())
    cells = [event for event in events if event["type"] == "cell"]
    submitted = [event for event in events if event["type"] == "submitted"]
    child = next((event["loop"] for event in submitted if event["loop"] != ROOT_LOOP), None)
    begun = next((event["turn"] for event in submitted if event["call"] == child), None)
    for cell in cells:
        if cell["loop"] == ROOT_LOOP:
            _code(run, cell, 2)
            if cell["turn"] == begun:
                for inner in cells:
                    if inner["loop"] == child:
                        _code(run, inner, 6)
                        _printed(run, inner, 6)
            _printed(run, cell, 2)


def _code(run: Run, cell: Event, indent: int) -> None:
    out.print(f"{' ' * indent}loop {cell['loop']}, turn {cell['turn']}", style="dim")
    for line in run.text(cell["code"]).strip().splitlines():
        out.print(" " * (indent + 2) + _short(line), markup=False)


def _printed(run: Run, cell: Event, indent: int) -> None:
    text = " ".join(run.text(cell["stdout"]).split())
    if text:
        out.print(" " * (indent + 2) + _short(text), markup=False, style="green")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]} …"
