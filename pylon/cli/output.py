"""Output for people: what is printed, tables, durations, short keys."""

from typing import Any

from rich.console import Console
from rich.table import Table

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def table(*columns: str, **options: Any) -> Table:
    """A plain table; columns whose name starts with `>` are right-aligned."""
    made = Table(box=None, pad_edge=False, header_style="bold", **options)
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made


def ago(seconds: float) -> str:
    """A duration for people."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def short(public_key: str) -> str:
    """A key that still fits a table."""
    return f"{public_key[:10]}…{public_key[-6:]}"
