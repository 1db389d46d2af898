"""Changes settings in `config.toml` and leaves everything else in the file as it is."""

import re
import tomllib
from pathlib import Path
from typing import Any

import tomlkit

from pylon import config as settings
from pylon.files import write_whole
from pylon.sections import Config


def change(path: Path, section: str, values: dict[str, Any]) -> Config:
    """Sets `values` in `[section]`. Returns all settings after the change, with those of the environment.

    The file is replaced in one step, and only by one that loads. Raises `SetupError`.
    """
    settings.load(path)
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        text = _with(text, section, name, value)
    changed = settings.parse(tomllib.loads(text), source=str(path))
    write_whole(path, text.encode())
    return changed


def _with(text: str, section: str, name: str, value: Any) -> str:
    document = tomlkit.parse(text)
    if name in document.get(section, {}):
        document[section][name] = value
        return tomlkit.dumps(document)
    line = f"{name} = {tomlkit.item(value).as_string()}"
    lines = text.splitlines()
    header = f"[{section}]"
    start = next((at for at, each in enumerate(lines) if each.strip() == header), None)
    if start is None:
        return "\n".join([*lines, "", header, line, ""])
    end = next((at for at in range(start + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
    # In the file that `pylon init` wrote, the setting is commented out below its description.
    shown = next((at for at in range(start + 1, end) if re.match(rf"# ?{name}\s*=", lines[at])), None)
    if shown is None:
        lines.insert(start + 1, line)
    else:
        lines[shown] = line
    return "\n".join([*lines, ""])
