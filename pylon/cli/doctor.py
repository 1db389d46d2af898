"""`pylon doctor`: what is wrong here, and why no jobs come."""

from dataclasses import asdict
from textwrap import wrap

import typer

from pylon.cli.output import out
from pylon.cli.running import Json, print_json, run
from pylon.errors import PylonError
from pylon.node.doctor.examine import Examination, examine
from pylon.node.doctor.finding import Verdict, worst
from pylon.text import clean_line

_INDENT = 9
_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red"}


def doctor(as_json: Json = False) -> None:
    """Look at machine, home, relays, model, wallet and service, and say what is wrong and why no jobs come.

    It changes nothing, and works whether a node runs or not. It ends with status 1 when something is wrong.
    """
    found = run(examine(), as_json=as_json, logs="error")
    verdict = worst(found.findings)
    if as_json:
        print_json(
            {
                "verdict": verdict,
                "no_jobs": [finding.check for finding in found.findings if finding.no_jobs],
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
        lines = wrap(clean_line(f"{finding.check}: {finding.said}"), width)
        lines += wrap(clean_line(f"→ {finding.todo}"), width, subsequent_indent="  ") if finding.todo else []
        out.print(f"\n{'':{_INDENT}}".join(lines))
    out.print()
    reasons = [finding.check for finding in found.findings if finding.no_jobs]
    if reasons:
        out.print(f"No jobs come because of: {', '.join(reasons)}", style="bold")
    elif found.serves:
        out.print("Nothing here keeps jobs away: they come when somebody asks.", style="bold")
