"""The identity of this machine, and what its processor can do."""

import hashlib
import platform
import re
import subprocess
import sys
from pathlib import Path

from pylon.host.programs import output_of

_LINUX = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_UUID = re.compile(r'"IOPlatformUUID" = "([0-9A-Fa-f-]{36})"')


def machine_mark() -> str:
    """An id of this machine that stays while its system is installed; empty if there is none.

    A hash, because the system's own id must not be shown to others (machine-id(5)).
    """
    if sys.platform == "darwin":
        found = platform_uuid(_asked("ioreg", "-rd1", "-c", "IOPlatformExpertDevice"))
    else:
        found = next((text for path in _LINUX if (text := _text(path))), "")
    return hashlib.sha256(f"pylon {found}".encode()).hexdigest()[:32] if found else ""


def platform_uuid(printed: str) -> str:
    """The id of a Mac in the output of `ioreg -rd1 -c IOPlatformExpertDevice`, or empty."""
    found = _UUID.search(printed)
    return found[1] if found else ""


def has_metal() -> bool:
    """Whether MLX computes on a GPU here: on an Apple Silicon Mac whose Python is not translated."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def is_translated() -> bool:
    """Whether this is a program for Intel that Rosetta runs on Apple Silicon."""
    return sys.platform == "darwin" and _asked("sysctl", "-in", "sysctl.proc_translated").strip() == "1"


def _asked(*command: str) -> str:
    try:
        return output_of(*command)
    except (OSError, subprocess.SubprocessError):
        return ""


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    # Before the first boot the file holds `uninitialized`.
    return text if len(text) == 32 else ""
