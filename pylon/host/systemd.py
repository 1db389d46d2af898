"""systemd, the service manager of Linux: a node as a user's unit, or as a system unit where nobody logs in.

Source: systemd.unit(5), systemd.service(5), systemd.exec(5), systemctl(1).
"""

import re
from pathlib import Path

from pylon.errors import SetupError
from pylon.host.service import CLOSE_S, RESTART_S, Command, ServiceSpec, ServiceState, checked

UNIT = "pylon.service"
# In a comment, so that reading the home back need not undo systemd's quoting.
_MARK = re.compile(r"\A# Written by `pylon service install` for (/.*)$", re.MULTILINE)
_SYSTEM_UNITS = Path("/etc/systemd/system")
_SHOWN = (
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "ExecMainCode",
    "ExecMainStatus",
    "NRestarts",
)
# Values of ExecMainCode, CLD_EXITED and others of <signal.h>: ExecMainStatus is an exit status or a signal's number.
_EXITED, _KILLED = "1", ("2", "3")

_PLAIN = re.compile(r"[\w./:=@,+-]+")

# Left out: MemoryDenyWriteExecute breaks code that compiles at run time, such as GPU drivers; PrivateDevices hides
# GPUs; ProcSubset hides the machine's memory size from engines.
_HARDENING = (
    "ProtectSystem=strict",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "LockPersonality=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "CapabilityBoundingSet=",
)


class Systemd:
    """Implements `Manager` for systemd."""

    name = "systemd"

    def __init__(self, spec: ServiceSpec) -> None:
        self._spec = spec
        self._ctl = ("systemctl",) if spec.system else ("systemctl", "--user")

    def file(self) -> Path:
        root = _SYSTEM_UNITS if self._spec.system else self._spec.user_home / ".config/systemd/user"
        return root / UNIT

    def text(self) -> bytes:
        """Raises `SetupError` for a path that cannot stand in it."""
        spec = self._spec
        checked([*spec.arguments, str(spec.home), spec.user])
        program, *arguments = spec.arguments
        if set(program) & set("\"'\\"):
            raise SetupError(
                f"systemd starts no program whose path contains quotes or backslashes: {program}",
                hint="Move it to a folder with a plain name.",
            )
        lines = [
            f"# Written by `pylon service install` for {spec.home}",
            "[Unit]",
            "Description=Pylon, a node of a swarm of language models",
            # Only for a system unit: a user's manager has no such targets.
            *(("Wants=network-online.target", "After=network-online.target") if spec.system else ()),
            # Try for ever, as for a node whose disk is not mounted yet.
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=exec",
            # `$` begins a variable everywhere but in the path of the program.
            f"ExecStart={' '.join([_quoted(program), *(_quoted(word.replace('$', '$$')) for word in arguments)])}",
            *(f"Environment={_quoted(f'{name}={value}')}" for name, value in spec.environment().items()),
            f"WorkingDirectory={_escaped(str(spec.home))}",
            "Restart=on-failure",
            f"RestartSec={RESTART_S}",
            # Only the node gets the signal. It tells its children, after they have finished their jobs.
            "KillMode=mixed",
            f"TimeoutStopSec={spec.drain_s + CLOSE_S}",
            "UMask=0077",
            "LimitNOFILE=8192",
            "NoNewPrivileges=yes",
            *(self._system_lines() if spec.system else ()),
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if spec.system else 'default.target'}",
            "",
        ]
        return "\n".join(lines).encode()

    def _system_lines(self) -> tuple[str, ...]:
        spec = self._spec
        written = [str(spec.home), *(() if spec.shared is None else (f"-{spec.shared}",))]
        return (
            f"User={_escaped(spec.user)}",
            *_HARDENING,
            f"PrivateTmp={'yes' if spec.private_tmp else 'no'}",
            f"ReadWritePaths={' '.join(_quoted(path) for path in written)}",
            *(() if spec.private_tmp else ("ReadWritePaths=/tmp /var/tmp",)),
        )

    def home_in(self, text: bytes) -> Path | None:
        found = _MARK.match(text.decode(errors="replace"))
        return Path(found[1]) if found else None

    def start(self) -> tuple[Command, ...]:
        return ((*self._ctl, "daemon-reload"), (*self._ctl, "enable", UNIT), (*self._ctl, "restart", UNIT))

    def stop(self) -> tuple[Command, ...]:
        return ((*self._ctl, "disable", "--now", UNIT),)

    def forget(self) -> tuple[Command, ...]:
        return ((*self._ctl, "daemon-reload"),)

    def restart(self) -> tuple[Command, ...]:
        return ((*self._ctl, "restart", UNIT),)

    def show(self) -> Command:
        return (*self._ctl, "show", UNIT, f"--property={','.join(_SHOWN)}")

    def state(self, printed: str, code: int) -> ServiceState:
        lines = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
        if code != 0 or lines.get("LoadState") != "loaded":
            return ServiceState()
        pid, restarts = lines.get("MainPID", ""), lines.get("NRestarts", "")
        return ServiceState(
            loaded=True,
            running=f"{lines.get('ActiveState', '')} ({lines.get('SubState', '')})",
            pid=int(pid) if pid.isdecimal() and pid != "0" else None,
            last_exit=_ended(lines.get("ExecMainCode", ""), lines.get("ExecMainStatus", "")),
            starts=int(restarts) + 1 if restarts.isdecimal() else None,
        )

    def log_hint(self) -> str:
        return f"journalctl {'' if self._spec.system else '--user '}-u {UNIT}"


def _ended(code: str, status: str) -> str:
    if code == _EXITED:
        return status
    return f"signal {status}" if code in _KILLED else ""


def _escaped(value: str) -> str:
    return value.replace("%", "%%")


def _quoted(value: str) -> str:
    escaped = _escaped(value).replace("\\", "\\\\").replace('"', '\\"')
    return value if _PLAIN.fullmatch(value) else f'"{escaped}"'
