"""Which machine this is, and what its processor makes of this program."""

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
    """A name of this machine, the same for as long as its system is installed; empty where none can be told.

    A hash, because the id itself is to be kept from others (machine-id(5)).
    """
    if sys.platform == "darwin":
        found = platform_uuid(_asked("ioreg", "-rd1", "-c", "IOPlatformExpertDevice"))
    else:
        found = next((text for path in _LINUX if (text := _text(path))), "")
    return hashlib.sha256(f"pylon {found}".encode()).hexdigest()[:32] if found else ""


def platform_uuid(printed: str) -> str:
    """The id of a Mac in what `ioreg -rd1 -c IOPlatformExpertDevice` prints, or empty."""
    found = _UUID.search(printed)
    return found[1] if found else ""


def has_metal() -> bool:
    """Whether MLX computes on an accelerator here: an Apple Silicon Mac, by a Python of its own processor."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def is_translated() -> bool:
    """Whether Rosetta runs this program: one for Intel, on Apple Silicon."""
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
    # Before its first start a system has `uninitialized` there.
    return text if len(text) == 32 else ""
