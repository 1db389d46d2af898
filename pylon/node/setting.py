"""Changing one setting in `config.toml` without touching the rest of the file."""

import re
import tomllib
from pathlib import Path

import orjson

from pylon import config as settings


def write_setting(path: Path, section: str, name: str, value: str) -> None:
    """Sets `name` of `[section]` to a string. Raises `SetupError` and changes nothing when that does not fit."""
    text = path.read_text(encoding="utf-8")
    # A JSON string of printable characters is a TOML string.
    changed = _replaced(text, section, f"{name} = {orjson.dumps(value).decode()}", name)
    settings.parse(tomllib.loads(changed), source=str(path))
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(changed, encoding="utf-8")
    fresh.replace(path)


def _replaced(text: str, section: str, line: str, name: str) -> str:
    lines = text.splitlines()
    header = f"[{section}]"
    start = next((at for at, each in enumerate(lines) if each.strip() == header), None)
    if start is None:
        return "\n".join([*lines, "", header, line, ""])
    end = next((at for at in range(start + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
    places = [at for at in range(start + 1, end) if re.match(rf"(# ?)?{name}\s*=", lines[at])]
    # A line that is set goes before one that is commented out.
    set_ = [at for at in places if not lines[at].startswith("#")] or places
    if set_:
        lines[set_[0]] = line
    else:
        lines.insert(start + 1, line)
    return "\n".join([*lines, ""])
