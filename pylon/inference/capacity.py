"""Stores the speed of this machine's engine that `pylon bench engine` measured, for each model."""

from pathlib import Path

import orjson
from pydantic import BaseModel, ValidationError

from pylon.files import write_whole


class Capacity(BaseModel):
    """Tokens per second of prompts and of answers, with `slots` in flight. `measured_at` is Unix time."""

    tokens_in_per_s: float
    tokens_out_per_s: float
    slots: int
    measured_at: float


def load_capacity(path: Path, model: str) -> Capacity | None:
    """The capacity of a model; None if it was not measured, or if the file cannot be read."""
    try:
        return Capacity.model_validate(_read(path)[model])
    except (KeyError, ValidationError):
        return None


def save_capacity(path: Path, model: str, capacity: Capacity) -> None:
    """Stores the capacity of a model beside those of others. Raises OSError."""
    known = _read(path) | {model: capacity.model_dump()}
    write_whole(path, orjson.dumps(known, option=orjson.OPT_INDENT_2))


def _read(path: Path) -> dict[str, object]:
    try:
        known = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return known if isinstance(known, dict) else {}
