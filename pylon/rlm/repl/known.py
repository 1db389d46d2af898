"""Which sandboxes passed their self-test here, so that a run need not begin with one.

What was found holds for these versions on this system alone. The process sandbox proves at each start that it holds,
and a sandbox that does not start is forgotten.
"""

import contextlib
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import orjson

from pylon import __version__

_FILE = "sandboxes.json"


def passed(cache: Path) -> list[str]:
    """The names of those that passed."""
    try:
        record = orjson.loads((cache / _FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return []
    if not isinstance(record, dict) or record.get("here") != _here():
        return []
    names = record.get("passed")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def remember(cache: Path, name: str) -> None:
    """One more has passed. Where that cannot be written down, the next run tests again."""
    record = {"here": _here(), "passed": sorted({*passed(cache), name})}
    with contextlib.suppress(OSError):
        handle, draft = tempfile.mkstemp(dir=cache)
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(record))
        Path(draft).replace(cache / _FILE)


def forget(cache: Path) -> None:
    """The next run tests again."""
    with contextlib.suppress(OSError):
        (cache / _FILE).unlink(missing_ok=True)


def _here() -> dict[str, str]:
    return {
        "pylon": __version__,
        "eryx": version("pyeryx"),
        "python": sys.version,
        "executable": sys.executable,
        "system": platform.platform(),
    }
