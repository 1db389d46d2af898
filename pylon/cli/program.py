"""The program `pylon`: finds the command, runs it, and turns whatever ends it into a message and an exit code.

A command's file is imported when that command is called. So a node that serves for months does not hold the libraries
that other commands need, and no command waits for them to load.
"""

import codecs
import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from pylon import __version__
from pylon.cli.running import expect_json, fail, print_json, tell_interrupted, wants_json
from pylon.errors import InterruptError, PylonError, UsageError, refused
from pylon.text import clean_line

_HOME, _SERVE, _ASK, _MONEY, _MEASURE = "Home", "Serve", "Ask", "Money", "Measure"


class _Place(NamedTuple):
    """Where a command is: a module of this package and, in it, a function or a group of commands (`app`)."""

    file: str
    attribute: str
    panel: str


_PLACES = {
    "init": _Place("init", "init", _HOME),
    "version": _Place("node", "version", _HOME),
    "invite": _Place("household", "invite", _HOME),
    "join": _Place("household", "join", _HOME),
    "expel": _Place("household", "expel", _HOME),
    "start": _Place("start", "start", _SERVE),
    "stop": _Place("stop", "stop", _SERVE),
    "status": _Place("status", "status", _SERVE),
    "pause": _Place("node", "pause", _SERVE),
    "resume": _Place("node", "resume", _SERVE),
    "drain": _Place("node", "drain", _SERVE),
    "jobs": _Place("node", "jobs", _SERVE),
    "relay": _Place("relay", "relay", _SERVE),
    "doctor": _Place("doctor", "doctor", _SERVE),
    "ask": _Place("ask", "ask", _ASK),
    "map": _Place("mapping", "map_", _ASK),
    "providers": _Place("providers", "providers", _ASK),
    "mcp": _Place("mcp", "mcp", _ASK),
    "gateway": _Place("gateway", "gateway", _ASK),
    "conformance": _Place("conformance", "conformance", _ASK),
    "earnings": _Place("earnings", "earnings", _MONEY),
    "simulate": _Place("simulate", "simulate_", _MEASURE),
    "backup": _Place("backup", "backup", _HOME),
    "identity": _Place("identity", "app", _HOME),
    "models": _Place("models", "app", _SERVE),
    "service": _Place("service", "app", _SERVE),
    "rlm": _Place("rlm", "app", _ASK),
    "skill": _Place("skill", "app", _ASK),
    "wallet": _Place("wallet", "app", _MONEY),
    "price": _Place("price", "app", _MONEY),
    "bench": _Place("bench", "app", _MEASURE),
}


class _Commands(Mapping[str, Any]):
    """All commands by name. Only looking one up imports its file."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


@cache
def _command(name: str) -> Any:
    """The command of this name. Raises `KeyError` if there is none."""
    place = _PLACES[name]
    found = getattr(importlib.import_module(f"pylon.cli.{place.file}"), place.attribute)
    one = typer.Typer(callback=_pylon, add_completion=False, pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        one.add_typer(found, name=name, rich_help_panel=place.panel)
    else:
        one.command(name, rich_help_panel=place.panel)(found)
    group: Any = typer.main.get_command(one)
    _unwrap(group.commands[name])
    return group.commands[name]


def _unwrap(command: Any) -> None:
    """Joins the lines of each paragraph in a command's help and its subcommands', for the terminal to break them."""
    if command.help:
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in command.help.split("\n\n"))
    _prepare_options(command)
    for each in getattr(command, "commands", {}).values():
        _unwrap(each)


def _prepare_options(command: Any) -> None:
    """Hides the metavar of options that take no value, and lets --help heed --json."""
    context = typer.Context(command)
    for option in command.get_params(context):
        if getattr(option, "is_flag", False):
            option.metavar = ""
        if option is command.get_help_option(context):
            option.callback = _print_help


def _print_help(context: Any, _option: object, asked: bool) -> None:
    if not asked:
        return
    if wants_json():
        with contextlib.redirect_stdout(io.StringIO()) as text:
            context.get_help()
        print_json({"help": text.getvalue()})
    else:
        context.get_help()
    raise typer.Exit


class _Pylon(TyperGroup):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _Commands()
        _prepare_options(self)

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Other programs have taught people to type `pylon help map`.
        args = [*args[1:], "--help"] if args[:1] == ["help"] else args
        if set(args) == {"--json"}:
            ctx.fail("no command is named")
        # `pylon` itself and groups of commands have no --json, but programs add it to every call.
        if ("--help" in args and "--" not in args) or set(args) == {"--json", "--version"}:
            args = [each for each in args if each != "--json"]
        return super().parse_args(ctx, args)


def _print_version(asked: bool) -> None:
    if asked:
        if wants_json():
            print_json({"version": __version__})
        else:
            typer.echo(f"pylon {__version__}")
        raise typer.Exit


def _pylon(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Turn this computer into a paid node of a swarm of language models, or ask that swarm."""


app = typer.Typer(
    name="pylon",
    cls=_Pylon,
    callback=_pylon,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main(as_json: bool) -> NoReturn:
    """Runs what the command line says. `as_json`: `--json` is on it."""
    _make_streams()
    try:
        _run_as_asked(as_json)
    except KeyboardInterrupt:
        # While no command ran: between its work and the end of the program, or while its file was imported.
        tell_interrupted(as_json=as_json)
        sys.exit(InterruptError.exit_code)
    except TimeoutError:
        # A timeout is an `OSError`, but one that gets here is a bug of Pylon.
        raise
    except OSError as error:
        _give_up(error)


def _run_as_asked(as_json: bool) -> NoReturn:
    if as_json:
        expect_json()
    try:
        # Named, because an installed script may start it as `python -c`.
        ended = app(prog_name="pylon", standalone_mode=False)
    except TyperException as error:
        if not error.format_message():
            # A group without a command, whose help is printed already.
            sys.exit(error.exit_code)
        _fail(_misuse(error))
    except typer.Abort:
        _fail(UsageError("standard input ended before the answer"))
    except OSError as error:
        if not as_json or isinstance(error, TimeoutError):
            raise
        _fail(refused(error))
    if as_json and ended == InterruptError.exit_code:
        # Ctrl-C before the command's work had begun, such as while a file was read.
        tell_interrupted(as_json=True)
    sys.exit(ended if isinstance(ended, int) else 0)


# How Pydantic says that an option is no number, and the kinds of number in words for people.
_UNREAD = re.compile(r"it must be a valid (?P<kind>integer|number), unable to parse string as an? \w+")
_NUMBERS = {"integer": "a whole number", "number": "a number"}


def _misuse(error: TyperException) -> UsageError:
    context: Any = getattr(error, "ctx", None)
    hint = f"Run `{context.command_path} --help` to see how to use it." if context else ""
    said = " ".join(error.format_message().split())
    # Pydantic checks some options, in words for programmers.
    said = said.replace("Value error, ", "").replace(": Input should be ", ": it must be ")
    said = _UNREAD.sub(lambda found: f"it must be {_NUMBERS[found['kind']]}", said)
    return UsageError(f"{said[:1].lower()}{said[1:].rstrip('.')}", hint=hint)


def _fail(error: PylonError) -> NoReturn:
    try:
        fail(error)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)


# What a terminal shows whose encoding, such as that of LC_ALL=C, lacks these characters of Pylon's messages.
_PLAIN = {"…": "...", "→": "->", "←": "<-", "×": "x", "✗": "x"}
_SPELT_OUT = "pylon-spelt-out"


def _spelt_out(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handles a character that cannot be encoded (`codecs.register_error`)."""
    if isinstance(error, UnicodeEncodeError) and (plain := _PLAIN.get(error.object[error.start])):
        return plain, error.start + 1
    return codecs.backslashreplace_errors(error)


def _make_streams() -> None:
    """Makes standard output and error accept any text, even if they are closed or have a narrow encoding."""
    codecs.register_error(_SPELT_OUT, _spelt_out)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # The parent process closed it.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end
        elif isinstance(stream, io.TextIOWrapper):
            # A terminal keeps its own encoding. Files and pipes get UTF-8, as JSON must be, whatever the locale says.
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors=_SPELT_OUT)


def _give_up(error: OSError) -> NoReturn:
    """Ends the program because the system refused something, such as a write to a full disk."""
    said = refused(error)
    with contextlib.suppress(OSError):
        sys.stderr.write(f"pylon: {clean_line(str(said))}\n")
        if said.hint:
            sys.stderr.write(f"  {said.hint}\n")
    # At exit the interpreter flushes standard output again, and would print a second error.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(said.exit_code)
