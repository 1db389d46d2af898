"""Runs the commands of a service manager, and waits until it has released a service."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import SetupError
from pylon.host.service import Command, Manager, shown

# Seconds. A node that is told to stop finishes its jobs first, and managers wait for that.
_COMMAND_S = 120.0
# launchd releases a service some seconds after its process has ended, and refuses to start it again until then.
_RELEASE_S, _POLL_S = 90.0, 0.5
# Exit codes of launchctl: there is no such service; it is not released yet; it has been told to stop and still runs.
_NOT_LOADED, _NOT_RELEASED, _UNDER_WAY = (3, 113), (5, 37), 36


@dataclass(frozen=True, slots=True)
class Finished:
    """The exit status of a command, and what it printed on both streams."""

    code: int
    printed: str


type Run = Callable[[Command], Finished]


def run_command(command: Command) -> Finished:
    """Runs a command of a service manager. Raises `SetupError` if it is not installed or does not end in time."""
    environment = dict(os.environ)
    runtime = Path(f"/run/user/{os.getuid()}")
    if "XDG_RUNTIME_DIR" not in environment and runtime.is_dir():
        # Without it, as after `su`, systemctl does not find the user's manager.
        environment["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        done = subprocess.run(  # noqa: S603 - a list, made here
            command, capture_output=True, timeout=_COMMAND_S, env=environment, check=False
        )
    except FileNotFoundError as error:
        raise SetupError(f"the command {command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(
            f"`{shown(command)}` did not end within {_COMMAND_S:g} s",
            hint="`pylon service status` shows its state.",
        ) from error
    return Finished(done.returncode, (done.stdout + done.stderr).decode(errors="replace"))


def stop(manager: Manager, run: Run) -> None:
    """Stops the service if it is loaded, and waits until the manager has released it. Raises `SetupError`."""
    if not _is_loaded(manager, run):
        return
    for command in manager.stop():
        done = run(command)
        if done.code not in (0, _UNDER_WAY, *_NOT_LOADED):
            raise _refused(command, done)
    deadline = time.monotonic() + _RELEASE_S
    # Only launchd unloads a stopped service. systemd keeps a unit loaded as long as its file exists.
    while manager.name == "launchd" and _is_loaded(manager, run):
        if time.monotonic() > deadline:
            raise SetupError(f"launchd did not release the service within {_RELEASE_S:g} s", hint="Try again.")
        time.sleep(_POLL_S)


def _is_loaded(manager: Manager, run: Run) -> bool:
    shown_state = run(manager.show())
    return manager.state(shown_state.printed, shown_state.code).loaded


def run_or_raise(run: Run, command: Command, *, retry: bool = False) -> None:
    """Runs a command. Raises `SetupError` if it fails; with `retry` only after it has failed for `_RELEASE_S` seconds
    because the service was not released yet."""
    deadline = time.monotonic() + _RELEASE_S
    while (done := run(command)).code != 0:
        if not retry or done.code not in _NOT_RELEASED or time.monotonic() > deadline:
            raise _refused(command, done)
        time.sleep(_POLL_S)


def _refused(command: Command, done: Finished) -> SetupError:
    said = " ".join(done.printed.split())[:300]
    hint = "`pylon service status` shows its state."
    if command[:2] == ("systemctl", "--user") and "bus" in said:
        hint = "No service manager runs for this user. Start one with `loginctl enable-linger`, or use --system."
    elif command[1:2] == ("bootstrap",):
        hint = (
            "If no one is logged in at this machine's screen, use --system. The service starts at "
            "the next login anyway."
        )
    return SetupError(f"`{shown(command)}` failed with status {done.code}: {said}", hint=hint)
