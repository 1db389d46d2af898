"""The record of which sandboxes have passed their self-test, so that not every run begins with one.

A record is valid only for the same versions on the same system. It is deleted when a sandbox does not start; the
process sandbox tests its lock at each start anyway.
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
    """The names of the sandboxes that are recorded to have passed."""
    try:
        record = orjson.loads((cache / _FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return []
    if not isinstance(record, dict) or record.get("here") != _here():
        return []
    names = record.get("passed")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def remember(cache: Path, name: str) -> None:
    """Records that a sandbox has passed. If that cannot be written, the next run tests it again."""
    record = {"here": _here(), "passed": sorted({*passed(cache), name})}
    with contextlib.suppress(OSError):
        handle, draft = tempfile.mkstemp(dir=cache)
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(record))
        Path(draft).replace(cache / _FILE)


def forget(cache: Path) -> None:
    """Deletes the record, so that the next run tests again."""
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
