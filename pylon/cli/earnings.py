"""`pylon earnings`: prints what the node earned and how much electricity it took. Play money is named as such."""

import csv
import sys
import time
from typing import Annotated, Any

import typer
from rich.table import Table

from pylon.cli.calling import call
from pylon.cli.output import out, short, table
from pylon.cli.running import Json, print_json, run
from pylon.money.msat import sats_text


def earnings(
    by: Annotated[str, typer.Option(help="Group by customer, day or model.")] = "day",
    days: Annotated[float | None, typer.Option("--since", min=0, help="Show only the last N days.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Show what this node earned, what it did for free, and how much electricity the work took.

    Set `earnings.watts` to see electricity, and `earnings.price_per_kwh` to see its cost. Work of the last 90
    days is known.
    """
    run(_earnings(by, days, as_csv, as_json), as_json=as_json)


async def _earnings(by: str, days: float | None, as_csv: bool, as_json: bool) -> None:
    since = 0.0 if days is None else time.time() - days * 86_400
    data = await call("earnings", {"by": by, "since": since})
    if as_json:
        print_json(data)
    elif as_csv:
        _csv(data, by)
    else:
        out.print(_table(data, by))


def _csv(data: dict[str, Any], by: str) -> None:
    fields = [name for name in data["total"] if name != "group"]
    writer = csv.writer(sys.stdout)
    writer.writerow((by, *fields, "currency", "network"))
    for line in data["lines"]:
        writer.writerow((line["group"], *(line[name] for name in fields), data["currency"], data["network"]))


def _table(data: dict[str, Any], by: str) -> Table:
    # Electricity, currency and free work have columns only if they are configured, or happened.
    total = data["total"]
    names = {"kwh": ">kWh", "electricity": f">power {data['currency']}", "worth": f">worth {data['currency']}"}
    shown = [name for name in names if total[name] is not None]
    given = (">free jobs", ">free tokens") if total["free_jobs"] else ()
    made = table(by, ">paid jobs", ">earned", *given, *(names[name].rstrip() for name in shown))
    for line in (*data["lines"], {**total, "group": "all"}):
        group = short(line["group"]) if by == "customer" and line["group"] != "all" else line["group"]
        free = (f"{line['free_jobs']:,}", f"{line['free_prompt_tokens'] + line['free_completion_tokens']:,}")
        figures = (f"{line[name]:,.4f}" for name in shown)
        earned = sats_text(line["earned_msat"], data["unit"])
        made.add_row(group, f"{line['paid_jobs']:,}", earned, *(free if given else ()), *figures)
    return made
