"""`pylon doctor`: prints what is wrong with this node, and why no jobs come."""

import re
from dataclasses import asdict
from textwrap import wrap

import typer

from pylon.cli.output import out
from pylon.cli.running import Json, print_json, run
from pylon.errors import PylonError
from pylon.node.doctor.examination import Examination
from pylon.node.doctor.examine import examine
from pylon.node.doctor.finding import Verdict, worst
from pylon.text import clean_line

_INDENT = 9
# A quotation mark after a letter is an apostrophe.
_QUOTED, _UNBROKEN = re.compile(r"(?<!\w)'[^']*'"), "\N{NO-BREAK SPACE}"
_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red"}


def doctor(as_json: Json = False) -> None:
    """Check machine, home, relays, model, wallet and service; report what is wrong and why no jobs arrive.

    Changes nothing, and works with or without a running node. Exits with status 1 when something is wrong.
    """
    found = run(examine(), as_json=as_json, logs="error")
    verdict = worst(found.findings)
    if as_json:
        print_json(
            {
                "verdict": verdict,
                "no_jobs": [finding.check for finding in found.findings if finding.no_jobs],
                "only_own": [finding.check for finding in found.findings if finding.only_own],
                "findings": [asdict(finding) for finding in found.findings],
            }
        )
    else:
        _print(found)
    if verdict is Verdict.WRONG:
        raise typer.Exit(PylonError.exit_code)


def _print(found: Examination) -> None:
    width = out.width - _INDENT
    for finding in found.findings:
        out.print(f"{finding.verdict.value:{_INDENT}}", style=_STYLES[finding.verdict], end="")
        lines = _lines(f"{finding.check}: {finding.said}", width, "")
        lines += _lines(f"→ {finding.todo}", width, "  ") if finding.todo else []
        out.print(f"\n{'':{_INDENT}}".join(lines))
    out.print()
    reasons = [finding.check for finding in found.findings if finding.no_jobs]
    if reasons:
        out.print(f"No jobs arrive because of: {', '.join(reasons)}", style="bold")
    elif own := [finding.check for finding in found.findings if finding.only_own]:
        out.print(f"Jobs arrive only from this machine because of: {', '.join(own)}", style="bold")
    elif found.serves:
        out.print("Nothing here keeps jobs away: they arrive when someone asks.", style="bold")


def _lines(text: str, width: int, indent: str) -> list[str]:
    # Quotes hold the paths of commands that people copy, so they are not broken.
    whole = _QUOTED.sub(lambda path: path[0].replace(" ", _UNBROKEN), clean_line(text))
    found = wrap(whole, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_UNBROKEN, " ") for line in found]
