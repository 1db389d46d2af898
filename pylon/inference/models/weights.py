"""Finds a model's files, and computes the hash of its weights for receipts.

Nothing is ever fetched here.
"""

import glob
import hashlib
import re
from pathlib import Path

import orjson

from pylon.errors import ModelError
from pylon.files import write_whole

PACKAGED = Path(__file__).parent

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?")
GGUF = ".gguf"
# A GGUF model may have several parts: name-00001-of-00003.gguf.
_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)")
_CHUNK_BYTES = 1024 * 1024


def is_model_id(model: str) -> bool:
    """Such as needle-1 or mlx-community/Qwen3-4B-4bit: no path, nothing that leads out of a folder."""
    return _ID.fullmatch(model) is not None


def model_directory(model: str, models_dir: Path) -> Path:
    """The folder of `model`: in the package, or else under `models_dir` (the home's `models/`).

    Raises ModelError.
    """
    if not is_model_id(model):
        raise ModelError(
            f"{model!r} is not a model id", hint="An id looks like needle-1 or mlx-community/Qwen3-4B-4bit."
        )
    for directory in (PACKAGED / model, models_dir / model):
        if (directory / "config.json").is_file():
            weight_files(directory)
            return directory
    raise ModelError(
        f"the model {model} is not on this machine",
        hint=f"`pylon models pull {model}` fetches it; or put its files into {models_dir / model}; or use needle-1.",
    )


def gguf_file(model: str, models_dir: Path) -> Path:
    """The (first) GGUF file of `model`, which is an id as above, or the path of such a file. Raises ModelError."""
    if model.endswith(GGUF) and (path := Path(model).expanduser()).is_absolute():
        if path.is_file():
            return path
        raise ModelError(f"there is no file {path}", hint="`pylon models list` shows which models are here.")
    if not is_model_id(model):
        raise ModelError(
            f"{model!r} is neither a model id nor the path of a GGUF file",
            hint="An id looks like needle-1 or unsloth/Qwen3-0.6B-GGUF; a path begins with / or ~ and ends in .gguf.",
        )
    for place in (PACKAGED / f"{model}{GGUF}", models_dir / f"{model}{GGUF}"):
        if place.is_file():
            return place
    files = sorted((models_dir / model).glob(f"*{GGUF}"))
    first = [file for file in files if is_first_part(file)]
    if len(first) == 1:
        return first[0]
    if first:
        raise ModelError(
            f"there are {len(first)} GGUF files of the model {model}",
            hint=f"Name one by its path, such as {first[0]}.",
        )
    raise ModelError(
        f"there is no GGUF file of the model {model} on this machine",
        hint=f"`pylon models pull {model}` fetches one; or put it into {models_dir / model}; or use needle-1.",
    )


def is_first_part(file: Path) -> bool:
    """Whether a GGUF file is complete by itself, or the first of several parts."""
    part = _PART.search(file.name)
    return part is None or int(part[1]) == 1


def model_name(model: str) -> str:
    """The id of a model: for a GGUF file that was given by its path, the name of the file."""
    return _PART.sub("", Path(model).name).removesuffix(GGUF) if model.endswith(GGUF) else model


def weight_files(directory: Path) -> list[Path]:
    """The model's safetensors in the order of their names, or a GGUF file's parts. Raises ModelError for none."""
    if directory.suffix == GGUF:
        part = _PART.search(directory.name)
        stem = directory.name[: part.start()] if part else ""
        return sorted(directory.parent.glob(f"{glob.escape(stem)}-*-of-{part[2]}{GGUF}")) if part else [directory]
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"the folder of the model {directory.name} holds no safetensors",
            hint="MLX models come as *.safetensors; fetch the model again, or one that has them.",
        )
    return files


def weights_sha256(directory: Path, cache: Path | None = None) -> str:
    """Hex SHA-256 of the weights' files in the order of their names, as `cat *.safetensors | sha256sum` gives it.

    `directory` may be a GGUF file.

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
        return {}  # the cache only saves time: a broken one is written anew
    return known if isinstance(known, dict) else {}


def _write_cache(cache: Path, known: dict[str, object]) -> None:
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(cache, orjson.dumps(known, option=orjson.OPT_INDENT_2))
