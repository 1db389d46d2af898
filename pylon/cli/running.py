"""What every command does alike: it runs, prints JSON, fails. The node does so too, and so nothing here draws."""

import asyncio
import json
import shutil
import signal
import sqlite3
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, NoReturn, TextIO

import orjson
import typer

from pylon import log
from pylon.cli.wrapping import wrapped
from pylon.collect import collect_rarely
from pylon.errors import InterruptError, PylonError, error_row, refused
from pylon.inference.models import needle
from pylon.store.faults import told
from pylon.text import clean_text, escaped_in_json, whole_characters

# What a node has to finish what is there when it is told to stop, in seconds.
DRAIN_S = 60.0

# A question that it answers, short enough for a line of a terminal: a break would be copied with it. Whoever asks it
# for the capital of France hears "none".
NEEDLE_ASK = 'pylon ask "Tell me the magic number of owl. The magic number of owl is 4711."'
NEEDLE_ONLY = (
    f"{needle.MODEL_ID} only finds a number stated in a text, with the question in front of the "
    f"text:\n  {NEEDLE_ASK}\n  `pylon models recommend` lists models for any question."
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


class _Told:
    """Whether `--json` was asked for, and whether an object is out already: then there is to be one."""

    wanted = False
    printed = False


def expect_json() -> None:
    """From now on an error that ends the command is an object on standard output, where none is there yet."""
    _Told.wanted = True


def wants_json() -> bool:
    """Whether the call has `--json`, wherever it stands."""
    return _Told.wanted


def print_json(value: object) -> None:
    """One line of JSON on standard output."""
    line = _json(value)
    sys.stdout.write((escaped_in_json(line) if sys.stdout.isatty() else line) + "\n")
    sys.stdout.flush()
    _Told.printed = True


def _json(value: object) -> str:
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError:
        # The name of a file is bytes that need not be UTF-8.
        return whole_characters(json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")))


def print_text(text: str) -> None:
    """A text that is what was asked for: to a file as it is, to a terminal without what it takes as orders."""
    sys.stdout.write((clean_text(text) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()


def say(text: str, *, err: bool = False, **style: Any) -> None:
    """A line for people, by a program that goes on for months."""
    typer.secho(_fitted(text, sys.stderr if err else sys.stdout), err=err, **style)


def _fitted(text: str, stream: TextIO) -> str:
    return wrapped(text, shutil.get_terminal_size().columns) if stream.isatty() else text


def holder(pinged: dict[str, Any]) -> str:
    """Who has a home, by what its core says of itself."""
    since = datetime.fromtimestamp(pinged["started_at"]).astimezone().strftime("%H:%M:%S")
    return f"`{pinged['command']}` (process {pinged['pid']}, since {since})"


def household_line(household: dict[str, Any]) -> str:
    """What the household of a node, as `status` has it, means to others."""
    machines = household["machines"]
    others = "are served too" if household["strangers"] else "are not served"
    return f"household of {machines} machine{'' if machines == 1 else 's'}; strangers {others}"


def fail(error: PylonError, *, as_json: bool = False) -> NoReturn:
    """Says what happened and what to do next, and ends with the error's exit code."""
    if as_json or (_Told.wanted and not _Told.printed):
        print_json({"error": error_row(error)})
    typer.secho("pylon:", fg=typer.colors.RED, bold=True, nl=False, err=True)
    # Relays and providers have a say in it.
    hint = f"\n  {clean_text(error.hint)}" if error.hint else ""
    typer.echo(_fitted(f"pylon: {clean_text(str(error))}{hint}", sys.stderr).removeprefix("pylon:"), err=True)
    raise typer.Exit(error.exit_code)


def end_signals() -> tuple[signal.Signals, ...]:
    """What tells a program that goes on for months to end: Ctrl-C, a service manager, or the terminal that closes."""
    # Under nohup a terminal may close.
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hangs_up else ()))


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """The task in it is cancelled by `pylon stop --now`, a service manager or a terminal that closes too, and so ends
    in good order."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101 - commands run in one
    # Ctrl-C itself is asyncio's: a second one ends whatever still goes on.
    numbers = [number for number in end_signals() if number is not signal.SIGINT]
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def run[T](work: Coroutine[Any, Any, T], *, as_json: bool = False, logs: str = "warning") -> T:
    """Runs a command's work. Errors end the program with their message, the system's too; Ctrl-C with status 130."""
    log.configure(logs)
    collect_rarely()
    try:
        return asyncio.run(work)
    except PylonError as error:
        fail(error, as_json=as_json)
    except sqlite3.Error as error:
        understood = told(error)
        if understood is None:
            raise
        fail(understood, as_json=as_json and not _Told.printed)
    except (BrokenPipeError, TimeoutError):
        # Whoever read has enough, which the command line deals with; and what came too late is a fault of ours.
        raise
    except OSError as error:
        # Where even that cannot be printed, the program's entry has the last word.
        fail(refused(error), as_json=as_json and not _Told.printed)
    except KeyboardInterrupt:
        tell_interrupted(as_json=as_json)
        raise typer.Exit(InterruptError.exit_code) from None


def tell_interrupted(*, as_json: bool) -> None:
    """Who pressed Ctrl-C knows; a program that reads JSON does not."""
    if as_json and not _Told.printed:
        print_json({"error": error_row(InterruptError("interrupted"))})
