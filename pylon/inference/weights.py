"""A model's files: where they lie, and the hash that names them in receipts.

Nothing is ever fetched here.
"""

import hashlib
import re
from pathlib import Path

import orjson

from pylon.errors import ModelError

PACKAGED = Path(__file__).parent / "models"

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?")
_CHUNK_BYTES = 1024 * 1024


def is_model_id(model: str) -> bool:
    """Such as needle-1 or mlx-community/Qwen3-4B-4bit: no path, nothing that leads out of a folder."""
    return _ID.fullmatch(model) is not None


def model_directory(model: str, models_dir: Path) -> Path:
    """Where the files of `model` lie: with the package, or else under `models_dir` (the home's `models/`).

    Raises ModelError.
    """
    if not is_model_id(model):
        raise ModelError(
            f"{model!r} is not a model id.", hint="An id looks like needle-1 or mlx-community/Qwen3-4B-4bit."
        )
    for directory in (PACKAGED / model, models_dir / model):
        if (directory / "config.json").is_file():
            weight_files(directory)
            return directory
    raise ModelError(
        f"The model {model} is not on this machine.",
        hint=f"`pylon models pull {model}` fetches it; or put its files into {models_dir / model}; or use needle-1.",
    )


def weight_files(directory: Path) -> list[Path]:
    """The model's safetensors in the order of their names. Raises ModelError when there are none."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"The folder of the model {directory.name} holds no safetensors.",
            hint="MLX models come as *.safetensors; fetch the model again, or one that has them.",
        )
    return files


def weights_sha256(directory: Path, cache: Path | None = None) -> str:
    """Hex SHA-256 of the safetensors in the order of their names, as `cat *.safetensors | sha256sum` gives it.

    `cache` remembers it for as long as no file's size or time of change differs: reading tens of gigabytes takes
    the better part of a minute. Raises ModelError.
    """
    files = weight_files(directory)
    stats = [file.stat() for file in files]
    fingerprint = [[file.name, stat.st_size, stat.st_mtime_ns] for file, stat in zip(files, stats, strict=True)]
    known = _read_cache(cache)
    entry = known.get(str(directory))
    if isinstance(entry, dict) and entry.get("files") == fingerprint and isinstance(entry.get("sha256"), str):
        return str(entry["sha256"])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    if cache is not None:
        known[str(directory)] = {"files": fingerprint, "sha256": digest.hexdigest()}
        _write_cache(cache, known)
    return digest.hexdigest()


def _read_cache(cache: Path | None) -> dict[str, object]:
    try:
        known = orjson.loads(cache.read_bytes()) if cache is not None else {}
    except (OSError, orjson.JSONDecodeError):
        return {}  # the cache only saves time: a broken one is made anew
    return known if isinstance(known, dict) else {}


def _write_cache(cache: Path, known: dict[str, object]) -> None:
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = cache.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(known, option=orjson.OPT_INDENT_2))
    fresh.replace(cache)
