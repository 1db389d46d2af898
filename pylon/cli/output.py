"""What every command does alike: print, fail, run."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pylon import log
from pylon.collect import collect_rarely
from pylon.errors import PylonError

INTERRUPTED = 130

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def print_json(value: object) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(orjson.dumps(value, default=str).decode() + "\n")
    sys.stdout.flush()


def table(*columns: str, **options: Any) -> Table:
    """A plain table; columns whose name starts with `>` are right-aligned."""
    made = Table(box=None, pad_edge=False, header_style="bold", **options)
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made


def fail(error: PylonError, *, as_json: bool = False) -> NoReturn:
    """Says what happened and what to do next, and ends with the error's exit code."""
    if as_json:
        print_json({"error": {"type": type(error).__name__, "message": str(error), "hint": error.hint}})
    # What an error says may hold brackets of its own.
    err.print(f"[bold red]pylon:[/] {escape(str(error))}", markup=True)
    if error.hint:
        err.print(f"  {error.hint}", markup=False)
    raise typer.Exit(error.exit_code)


def run[T](work: Coroutine[Any, Any, T], *, as_json: bool = False, logs: str = "warning") -> T:
    """Runs a command's work. Errors end the program with their message; Ctrl-C with status 130."""
    log.configure(logs)
    collect_rarely()
    try:
        return asyncio.run(work)
    except PylonError as error:
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def ago(seconds: float) -> str:
    """A duration for people."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def short(public_key: str) -> str:
    """A key that still fits a table."""
    return f"{public_key[:10]}…{public_key[-6:]}"
