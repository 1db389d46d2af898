"""Changing a setting in `config.toml` the way a person would: everything else in the file stays as it is."""

import os
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError

from pylon import config as settings
from pylon.config import Config
from pylon.errors import SetupError


def change(path: Path, section: str, values: dict[str, Any]) -> Config:
    """Sets `values` in `[section]`; the settings as they are now, the environment included.

    The file is replaced at once and only by one that loads. Raises `SetupError`; then nothing was changed.
    """
    settings.load(path)
    text = path.read_text(encoding="utf-8")
    try:
        document = tomlkit.parse(text)
    except ParseError as error:
        raise SetupError(f"{path} is not valid TOML: {error}", hint="Mend that line and try again.") from error
    table = document.setdefault(section, tomlkit.table())
    for name, value in values.items():
        table[name] = value
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(tomlkit.dumps(document))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        changed = settings.load(fresh)
    except SetupError:
        fresh.unlink()
        raise
    fresh.replace(path)
    return changed
