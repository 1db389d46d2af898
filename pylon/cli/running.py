"""What all commands share: running their work, printing JSON or text, failing, and the signals that end them.

`pylon start` uses it too, and stays for months: nothing here loads the library that draws tables.
"""

import asyncio
import errno
import json
import os
import shutil
import signal
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import orjson
import typer

from pylon import log
from pylon.cli.wrapping import wrapped
from pylon.collect import collect_rarely
from pylon.errors import InterruptError, PylonError, error_row, refused
from pylon.event_loop import EventLoop
from pylon.inference.models import needle
from pylon.store.faults import told
from pylon.tasks import this_task
from pylon.text import clean_text, counted, escaped_in_json, whole_characters

# How long a node that is told to stop may take to finish its jobs, in seconds.
DRAIN_S = 60.0
# How often it is looked whether a terminal has gone to which a write failed, and the seconds in between.
_MOMENTS, _MOMENT_S = 20, 0.01

# A question that the packaged model answers; it answers most others with "none". It fits one line of a terminal,
# because a line break would be copied with it.
NEEDLE_ASK = 'pylon ask "Tell me the magic number of owl. The magic number of owl is 4711."'
NEEDLE_ONLY = (
    f"{needle.MODEL_ID} only finds a number stated in a text, with the question in front of the "
    f"text:\n  {NEEDLE_ASK}\n  `pylon models recommend` lists models for any question."
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


class _Output:
    """Whether this process was called with `--json`, whether it has printed an object yet, and whether the terminal
    that it printed to has gone."""

    wants_json = False
    printed_json = False
    lost_terminal = False


def expect_json() -> None:
    """From now on an error that ends the command is printed as JSON, unless an object was printed before."""
    _Output.wants_json = True


def wants_json() -> bool:
    """Whether `--json` stands anywhere on the command line."""
    return _Output.wants_json


def print_json(value: object) -> None:
    """Prints a line of JSON on standard output."""
    line = _json(value)
    sys.stdout.write((escaped_in_json(line) if sys.stdout.isatty() else line) + "\n")
    sys.stdout.flush()
    _Output.printed_json = True


def _json(value: object) -> str:
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError:
        # A file's name may hold bytes that are not UTF-8, which orjson refuses.
        return whole_characters(json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")))


def print_text(text: str) -> None:
    """Prints an answer: unchanged to a file, without control characters to a terminal, which would obey them."""
    sys.stdout.write((clean_text(text) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()


def say(text: str, *, err: bool = False, **style: Any) -> None:
    """Prints a line for people without loading rich. Raises `OSError` when nobody reads it any more."""
    typer.secho(_fitted(text, sys.stderr if err else sys.stdout), err=err, **(style if _may_style() else {}))


def say_if_heard(text: str, *, err: bool = False, **style: Any) -> None:
    """The same for a program that may outlive its terminal: when that is gone, nothing is printed."""
    with suppress(OSError):
        say(text, err=err, **style)


def _fitted(text: str, stream: TextIO) -> str:
    return wrapped(text, shutil.get_terminal_size().columns) if stream.isatty() else text


def _may_style() -> bool:
    """Whether the terminal is to get colours: not if it has none, or its user wants none (https://no-color.org)."""
    return os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def holder(pinged: dict[str, Any]) -> str:
    """Which process uses a home: its command, process id and start. `pinged` is what its `ping` call returned."""
    since = datetime.fromtimestamp(pinged["started_at"]).astimezone().strftime("%H:%M:%S")
    return f"`{pinged['command']}` (process {pinged['pid']}, since {since})"


def household_line(household: dict[str, Any]) -> str:
    """The size of a node's household, and whether strangers are served. `household` is from the `status` call."""
    others = "are served too" if household["strangers"] else "are not served"
    return f"household of {counted(household['machines'], 'machine')}; strangers {others}"


def fail(error: PylonError, *, as_json: bool = False) -> NoReturn:
    """Prints the error and its hint, and exits with its code. Raises `typer.Exit`."""
    if as_json or (_Output.wants_json and not _Output.printed_json):
        print_json({"error": error_row(error)})
    style: dict[str, Any] = {"fg": typer.colors.RED, "bold": True} if _may_style() else {}
    typer.secho("pylon:", nl=False, err=True, **style)
    # Messages quote relays and providers, whose control characters a terminal would obey.
    hint = f"\n  {clean_text(error.hint)}" if error.hint else ""
    typer.echo(_fitted(f"pylon: {clean_text(str(error))}{hint}", sys.stderr).removeprefix("pylon:"), err=True)
    raise typer.Exit(error.exit_code)


def end_signals() -> tuple[signal.Signals, ...]:
    """The signals that end a long-running command: Ctrl-C, SIGTERM, and SIGHUP unless `nohup` ignores it."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hangs_up else ()))


def stop_event() -> asyncio.Event:
    """An event that is set when one of `end_signals` comes."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in end_signals():
        loop.add_signal_handler(number, _caught, number, stop.set)
    return stop


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP cancel the current task as Ctrl-C does, so that it can clean up.

    They come from `pylon stop --now`, a service manager, or a terminal that closes.
    """
    task, loop = this_task(), asyncio.get_running_loop()
    # Ctrl-C itself is asyncio's: a second one ends whatever still goes on.
    numbers = [number for number in end_signals() if number is not signal.SIGINT]
    for number in numbers:
        loop.add_signal_handler(number, _caught, number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _caught(number: signal.Signals, act: Callable[[], object]) -> None:
    if number is signal.SIGHUP:
        _leave_lost_terminal()
    act()


def _leave_lost_terminal() -> None:
    """Lets output lead nowhere if it was to a terminal that has gone. Else each write would fail, and that failure
    would take the place of what the command ends with."""
    for descriptor in _lost_terminals():
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
        _Output.lost_terminal = True


def _has_lost_terminal() -> bool:
    """Whether a write failed because its terminal has gone, which the system may tell a moment later."""
    for _ in range(_MOMENTS):
        _leave_lost_terminal()
        if _Output.lost_terminal:
            break
        time.sleep(_MOMENT_S)
    return _Output.lost_terminal


def _lost_terminals() -> list[int]:
    """Which of the standard outputs are to a terminal that has gone: still a device, but no terminal any more."""
    nowhere = Path(os.devnull).stat().st_rdev
    found: list[int] = []
    for descriptor in (1, 2):
        # A command may be started without one of them.
        with suppress(OSError):
            status = os.fstat(descriptor)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev != nowhere and not os.isatty(descriptor):
                found.append(descriptor)
    return found


def run[T](work: Coroutine[Any, Any, T], *, as_json: bool = False, logs: str = "warning") -> T:
    """Runs a command's work. A `PylonError`, or an error of SQLite or the system that Pylon can explain, is printed
    and ends the program with its exit code; Ctrl-C ends it with 130. Raises `typer.Exit`, and any other error.
    """
    log.configure(logs)
    collect_rarely()
    try:
        return asyncio.run(work, loop_factory=EventLoop)
    except PylonError as error:
        fail(error, as_json=as_json)
    except sqlite3.Error as error:
        understood = told(error)
        if understood is None:
            raise
        fail(understood, as_json=as_json and not _Output.printed_json)
    except (BrokenPipeError, TimeoutError):
        # `main` handles a reader that has gone. A timeout here is a bug, so it keeps its traceback.
        raise
    except OSError as error:
        if error.errno == errno.EIO and _has_lost_terminal():
            # A write that came before SIGHUP was handled.
            raise typer.Exit(InterruptError.exit_code) from None
        # If even this cannot be printed, `main` has the last word.
        fail(refused(error), as_json=as_json and not _Output.printed_json)
    except KeyboardInterrupt:
        tell_interrupted(as_json=as_json)
        raise typer.Exit(InterruptError.exit_code) from None


def tell_interrupted(*, as_json: bool) -> None:
    """Prints the interruption as JSON. A person who pressed Ctrl-C needs no message."""
    if as_json and not _Output.printed_json:
        print_json({"error": error_row(InterruptError("interrupted"))})
