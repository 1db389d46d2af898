"""`pylon service`: has launchd or systemd start the node and restart it after a failure."""

import asyncio
from dataclasses import asdict
from os import environ
from typing import Annotated, Any

import typer

from pylon import config as settings
from pylon import log
from pylon.cli.output import out, table
from pylon.cli.running import DRAIN_S, Json, fail, print_json, run
from pylon.cli.start import serve
from pylon.errors import PylonError, UnreachableError
from pylon.host.service import ServiceState, shown
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home, open_home
from pylon.node.service import installed as service
from pylon.node.service.commands import run_command
from pylon.node.service.place import Place, install_command, lingers, notes, place
from pylon.node.session import running_node
from pylon.sections import Config
from pylon.text import counted

app = typer.Typer(
    no_args_is_help=True, help="Run the node as a service that starts with the machine and restarts after a failure."
)

logger = log.get("node")

Relay = Annotated[bool, typer.Option("--relay", help="Run your household's relay too, open to its members alone.")]


@app.command()
def install(
    relay: Relay = False,
    system: Annotated[bool, typer.Option("--system", help="Start at boot instead of at login. Needs root.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be written and run.")] = False,
    as_json: Json = False,
) -> None:
    """Have this machine start the node at login (with --system, at boot), and restart it after a failure.

    Uses launchd on macOS and systemd on Linux. Installing again for the same home replaces the service.
    """
    try:
        home, _ = open_home()
        wanted = place(home, system=system, relay=relay, drain_s=int(DRAIN_S))
        told = notes(wanted, environ, lingers=lingers(wanted.spec.user))
        if not dry_run:
            told += asyncio.run(_by_hand(home))
            service.install(home, wanted, run_command)
        else:
            told += _refusal(home, wanted)
        now = service.status(home, run_command)
        manager = wanted.manager
        text = manager.text().decode()
        commands = [shown(command) for command in manager.start()]
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json(
            {"dry_run": dry_run, "text": text, "commands": commands, "notes": told}
            | _json(now)
            | {"file": str(manager.file()), "system": system}
        )
        return
    if dry_run:
        out.print(f"{manager.file()}\n", style="bold")
        out.print(text)
        out.print("then", style="bold")
        for command in commands:
            out.print(f"  {command}")
    else:
        out.print(f"{manager.name} starts this node now and at every {'boot' if system else 'login'}")
        out.print(f"  file  {manager.file()}\n  log   {now.log}")
        out.print("`pylon service status` shows its state; `pylon stop` stops it until the next start.", style="dim")
    for note in told:
        out.print(note, style="yellow")


@app.command()
def uninstall(as_json: Json = False) -> None:
    """Stop the service and remove what `install` wrote. Home, key and settings stay."""
    try:
        home, _ = open_home()
        gone = service.uninstall(home, run_command)
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json({"removed": None if gone is None else str(gone)})
    else:
        out.print("no service is installed" if gone is None else f"stopped; removed {gone}")


@app.command()
def restart(as_json: Json = False) -> None:
    """Restart the service's node, to apply new settings or a new version of Pylon. Running jobs are finished
    first."""
    try:
        home, _ = open_home()
        service.restart(home, run_command)
        now = service.status(home, run_command)
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json(_json(now))
    else:
        out.print(f"restarted: {_words(now.state)}")


@app.command()
def status(as_json: Json = False) -> None:
    """Show whether the node is a service, whether it runs, how it last ended, and where its log is."""
    try:
        home, _ = open_home()
        now = service.status(home, run_command)
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json(_json(now))
        return
    made = table("", "", show_header=False)
    if now.installed:
        made.add_row("service", f"{now.manager}{', of the machine' if now.system else ''}: {now.file}")
        made.add_row("state", _words(now.state))
    else:
        made.add_row("service", f"not installed; to install it, run `{install_command()}`")
    made.add_row("log", now.log)
    if now.installed and now.log_hint:
        made.add_row("", now.log_hint)
    out.print(made)


@app.command("run")
def run_(
    relay: Relay = False,
    drain_s: Annotated[float, typer.Option(min=0, help="Seconds to finish running jobs after SIGTERM.")] = DRAIN_S,
) -> None:
    """Run the node as the service manager does: like `pylon start`, with startup errors in the log."""
    root = settings.home_directory()
    if root.is_dir():
        # Nobody reads what is printed, and wrong settings are found before a node opens its own log.
        log.configure(file=root / "logs" / "pylon.log")
    try:
        home, config = open_home()
    except PylonError as error:
        _log(error)
        fail(error)
    run(_serve(home, config, drain_s, relay=relay))


async def _serve(home: Home, config: Config, drain_s: float, *, relay: bool) -> None:
    try:
        await serve(home, config, drain_s, relay=relay, as_json=False)
    except PylonError as error:
        _log(error)
        raise
    except Exception:
        logger.exception("the node failed")
        raise


def _log(error: PylonError) -> None:
    logger.error("the node ended", error=str(error), hint=error.hint)


def _refusal(home: Home, wanted: Place) -> list[str]:
    """A note on why the service could not be installed; empty if it could."""
    try:
        service.check(home, wanted)
    except PylonError as error:
        return [f"Installing it would fail: {error}. {error.hint}"]
    return []


async def _by_hand(home: Home) -> list[str]:
    """A note if a node that is not the service serves the home now; otherwise empty."""
    try:
        found = await result_of(running_node(home), "ping")
    except UnreachableError:
        return []
    if not found["serving"] or service.status(home, run_command).state.pid == found["pid"]:
        return []
    return [
        (
            f"Process {found['pid']} is serving this home now. Stop it with `pylon stop` so that the "
            "service can take over."
        )
    ]


def _json(now: service.Status) -> dict[str, Any]:
    found: dict[str, Any] = asdict(now)
    state: dict[str, Any] = found.pop("state")
    return found | state


def _words(state: ServiceState) -> str:
    if not state.loaded:
        return "not loaded: run `pylon service restart` to load it"
    process = "" if state.pid is None else f", process {state.pid}"
    times = "" if state.starts is None else f", started {counted(state.starts, 'time')}"
    ended = f", last exit: {state.last_exit}" if state.last_exit else ""
    return f"{state.running}{process}{times}{ended}"
