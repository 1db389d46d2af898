"""launchd, the service manager of macOS: a node as a LaunchAgent, or as a LaunchDaemon where nobody logs in.

Source: launchd.plist(5), launchctl(1).
"""

import plistlib
import re
from pathlib import Path
from xml.parsers.expat import ExpatError

from pylon.host.service import CLOSE_S, Command, ServiceSpec, ServiceState, checked

LABEL = "pylon.node"
# Seconds after which launchd kills a service that it stops: the drain has to fit into them.
EXIT_TIMEOUT_S = 60
_DAEMONS = Path("/Library/LaunchDaemons")
_HOMEBREW = "/opt/homebrew/bin"
# launchd's default is 256, fewer than the connections of a relay.
_OPEN_FILES = 8_192
# In `launchctl print` the service's own lines are indented by one tab, those of its sockets and endpoints by more.
_LINE = re.compile(r"^(?:\t| {1,8})([a-z][a-z ]*) = (.*)$", re.MULTILINE)


class Launchd:
    """Implements `Manager` for launchd."""

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
            # Restart it unless it ended with status 0, as by `pylon stop`.
            "KeepAlive": {"SuccessfulExit": False},
            # Other types are put on the efficiency cores.
            "ProcessType": "Interactive",
            "ExitTimeOut": EXIT_TIMEOUT_S,
            "Umask": 0o077,
            "SoftResourceLimits": {"NumberOfFiles": _OPEN_FILES},
            # Files that launchd writes grow without limit. The node has a log of its own, even of a failed start.
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
            # It may have been disabled by hand, which outlasts the file.
            ("launchctl", "enable", self.target),
            ("launchctl", "bootstrap", self._domain, str(self.file())),
        )

    def stop(self) -> tuple[Command, ...]:
        return (("launchctl", "bootout", self.target),)

    def forget(self) -> tuple[Command, ...]:
        return ()

    def restart(self) -> tuple[Command, ...]:
        # `kickstart -k` would kill the node amid its jobs.
        return ()

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
    """The seconds that a node has to finish its jobs here, so that closing fits into `EXIT_TIMEOUT_S`, too."""
    return min(wished, EXIT_TIMEOUT_S - CLOSE_S)
