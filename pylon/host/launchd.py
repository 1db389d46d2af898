"""launchd, macOS's service manager: a node as a LaunchAgent, or as a LaunchDaemon where nobody logs in.

Source: launchd.plist(5), launchctl(1).
"""

import plistlib
import re
from pathlib import Path
from xml.parsers.expat import ExpatError

from pylon.host.service import CLOSE_S, Command, ServiceSpec, ServiceState, checked

LABEL = "pylon.node"
# What macOS lets go of is killed after this long: the drain has to fit.
EXIT_TIMEOUT_S = 60
_DAEMONS = Path("/Library/LaunchDaemons")
_HOMEBREW = "/opt/homebrew/bin"
# launchd's own limit is 256, which the connections to a relay pass.
_OPEN_FILES = 8_192
# `launchctl print`: the service's own lines stand one tab in, those of its sockets and endpoints deeper.
_LINE = re.compile(r"^(?:\t| {1,8})([a-z][a-z ]*) = (.*)$", re.MULTILINE)


class Launchd:
    """See `Manager`. `drain_s` of the spec is cut to what `EXIT_TIMEOUT_S` leaves."""

    name = "launchd"

    def __init__(self, spec: ServiceSpec) -> None:
        self._spec = spec
        self._domain = "system" if spec.system else f"gui/{spec.uid}"

    @property
    def target(self) -> str:
        return f"{self._domain}/{LABEL}"

    def file(self) -> Path:
        root = _DAEMONS if self._spec.system else self._spec.user_home / "Library/LaunchAgents"
        return root / f"{LABEL}.plist"

    def text(self) -> bytes:
        """Raises `SetupError` for a path that cannot stand in it."""
        spec = self._spec
        checked([*spec.arguments, str(spec.home), spec.user])
        described: dict[str, object] = {
            "Label": LABEL,
            "ProgramArguments": list(spec.arguments),
            "EnvironmentVariables": spec.environment(_HOMEBREW),
            "WorkingDirectory": str(spec.home),
            "RunAtLoad": True,
            # `pylon stop` ends it for good; whatever else does is followed by a new start.
            "KeepAlive": {"SuccessfulExit": False},
            # Anything else is put on the efficiency cores.
            "ProcessType": "Interactive",
            "ExitTimeOut": EXIT_TIMEOUT_S,
            "Umask": 0o077,
            "SoftResourceLimits": {"NumberOfFiles": _OPEN_FILES},
            # Files of launchd's grow without end. The node writes its own log, failures to start included.
            "StandardOutPath": "/dev/null",
            "StandardErrorPath": "/dev/null",
        }
        if spec.system:
            described["UserName"] = spec.user
        return plistlib.dumps(described)

    def home_in(self, text: bytes) -> Path | None:
        try:
            found = plistlib.loads(text)
        except (plistlib.InvalidFileException, ExpatError, ValueError):
            return None
        match found:
            case {"Label": str(label), "EnvironmentVariables": {"HOME": str(user_home), **variables}} if (
                label == LABEL
            ):
                return Path(str(variables.get("PYLON_HOME", f"{user_home}/.pylon")))
        return None

    def start(self) -> tuple[Command, ...]:
        return (
            # A person may have disabled it, which outlives the file.
            ("launchctl", "enable", self.target),
            ("launchctl", "bootstrap", self._domain, str(self.file())),
        )

    def stop(self) -> tuple[Command, ...]:
        return (("launchctl", "bootout", self.target),)

    def forget(self) -> tuple[Command, ...]:
        return ()

    def restart(self) -> tuple[Command, ...]:
        return (("launchctl", "kickstart", "-k", self.target),)

    def show(self) -> Command:
        return ("launchctl", "print", self.target)

    def state(self, printed: str, code: int) -> ServiceState:
        if code != 0:
            return ServiceState()
        lines = {name: value.strip() for name, value in _LINE.findall(printed)}
        pid, runs = lines.get("pid", ""), lines.get("runs", "")
        ended = lines.get("last terminating signal") or lines.get("last exit code", "")
        return ServiceState(
            loaded=True,
            running=lines.get("state", ""),
            pid=int(pid) if pid.isdecimal() else None,
            last_exit="" if ended.startswith("(") else ended,
            starts=int(runs) if runs.isdecimal() else None,
        )

    def log_hint(self) -> str:
        return ""


def drain_s(wished: int) -> int:
    """What a node has to finish its jobs here, in seconds, so that closing fits into `EXIT_TIMEOUT_S` too."""
    return min(wished, EXIT_TIMEOUT_S - CLOSE_S)
