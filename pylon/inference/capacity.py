"""What this machine's engine reached in a benchmark, remembered for each model until it is measured again."""

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
    """That of a model, or None before it was measured. A file that cannot be read is one that is not there."""
    try:
        return Capacity.model_validate(_read(path)[model])
    except (KeyError, ValidationError):
        return None


def save_capacity(path: Path, model: str, capacity: Capacity) -> None:
    known = _read(path) | {model: capacity.model_dump()}
    write_whole(path, orjson.dumps(known, option=orjson.OPT_INDENT_2))


def _read(path: Path) -> dict[str, object]:
    try:
        known = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return known if isinstance(known, dict) else {}
