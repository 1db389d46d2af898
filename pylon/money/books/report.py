"""What was earned, summed up from ledger entries for people to read. Values in, values out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pylon.money.books.ledger import Entry, Kind

_CUSTOMER = "customer:"


class By(StrEnum):
    """How sums are grouped. A model is known for each job by whoever ran it (`model_of`)."""

    CUSTOMER = "customer"
    DAY = "day"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Line:
    """One group: how many charges, and their sum in msat."""

    group: str
    count: int
    msat: int


def earnings(entries: Iterable[Entry], by: By, *, model_of: Mapping[str, str] | None = None) -> list[Line]:
    """What customers were charged, largest sum first; days in order (UTC). Jobs of no known model are ``?``."""
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
                group = entry.debit.removeprefix(_CUSTOMER)
        counts[group] = counts.get(group, 0) + 1
        sums[group] = sums.get(group, 0) + int(entry.amount)
    lines = [Line(group, counts[group], sums[group]) for group in sums]
    return sorted(lines, key=lambda line: (line.group,) if by is By.DAY else (-line.msat, line.group))


def day(at: float) -> str:
    """The day (UTC) of a Unix time."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()
