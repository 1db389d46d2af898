"""Sums up ledger entries into the earnings that people read. Pure functions: values in, values out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pylon.money.books import ledger
from pylon.money.books.ledger import Entry, Kind


class By(StrEnum):
    """How earnings are grouped."""

    CUSTOMER = "customer"
    DAY = "day"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Line:
    """One group of earnings: the number of charges, and their sum in msat."""

    group: str
    count: int
    msat: int


def earnings(entries: Iterable[Entry], by: By, *, model_of: Mapping[str, str] | None = None) -> list[Line]:
    """What customers were charged, largest sum first; days (UTC) in order.

    `model_of` gives the model of each job; jobs without one are grouped as `?`.
    """
    counts: dict[str, int] = {}
    sums: dict[str, int] = {}
    for entry in entries:
        if entry.kind is not Kind.CHARGED:
            continue
        match by:
            case By.DAY:
                group = day(entry.at)
            case By.MODEL:
                group = (model_of or {}).get(entry.reference, "?")
            case By.CUSTOMER:
                group = entry.debit.removeprefix(ledger.customer(""))
        counts[group] = counts.get(group, 0) + 1
        sums[group] = sums.get(group, 0) + int(entry.amount)
    lines = [Line(group, counts[group], sums[group]) for group in sums]
    return sorted(lines, key=lambda line: (line.group,) if by is By.DAY else (-line.msat, line.group))


def day(at: float) -> str:
    """The day (UTC) of a Unix time, as YYYY-MM-DD."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()
