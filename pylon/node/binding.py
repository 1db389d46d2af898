"""The mark of the machine on which a key was made: `pylon doctor` warns of a home that was copied to another."""

from contextlib import suppress
from pathlib import Path

from pylon.files import write_whole
from pylon.host.hardware import machine_mark

FILE = "machine"


def bind(folder: Path) -> None:
    """Writes this machine's mark beside the key, unless there is one. Errors are ignored: only a warning needs it."""
    path, mark = folder / FILE, machine_mark()
    if mark and not path.exists():
        with suppress(OSError):
            write_whole(path, f"{mark}\n".encode())


def is_this_machine(folder: Path) -> bool | None:
    """Whether the key in this folder was made on this machine; None if there is no mark, or it cannot be read."""
    mark = machine_mark()
    try:
        written = (folder / FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return written == mark if mark and written else None
