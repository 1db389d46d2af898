"""Lists the models on this machine, tells which engine serves one, and deletes one."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pylon.errors import ModelError, UsageError
from pylon.inference.models.weights import (
    GGUF,
    PACKAGED,
    gguf_file,
    is_first_part,
    is_model_id,
    model_directory,
    weight_files,
)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine, `packaged` if it came with Pylon.

    `place` is its folder, or its GGUF file for the `llama` engine; `size` that of its weights, in bytes.
    """

    id: str
    engine: Literal["mlx", "llama"]
    place: Path
    size: int
    packaged: bool


def local_models(models_dir: Path) -> list[LocalModel]:
    """The models that came with Pylon, then those under `models_dir`, by name."""
    found: list[LocalModel] = []
    for root in (PACKAGED, models_dir):
        for config in sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")]):
            directory = config.parent
            if directory.name.endswith(".partial"):
                continue
            with contextlib.suppress(ModelError):
                size = sum(file.stat().st_size for file in weight_files(directory))
                found.append(LocalModel(str(directory.relative_to(root)), "mlx", directory, size, root is PACKAGED))
        for file in sorted([*root.glob(f"*{GGUF}"), *root.glob(f"*/*{GGUF}"), *root.glob(f"*/*/*{GGUF}")]):
            if file.parent.name.endswith(".partial") or not is_first_part(file):
                continue
            # A GGUF file of a repository is named after the repository, a single one after the file.
            place = file.with_suffix("") if file.parent == root else file.parent
            size = sum(part.stat().st_size for part in weight_files(file))
            found.append(LocalModel(str(place.relative_to(root)), "llama", file, size, root is PACKAGED))
    return found


def engine_for(model: str, models_dir: Path, *, engine: str = "") -> Literal["mlx", "llama"]:
    """The engine that can serve a model of this machine: the named one, or else the one whose files are here.

    Raises `UsageError` for an engine without files of its own, and `ModelError` where the files are not here.
    """
    if engine not in ("", "mlx", "llama"):
        raise UsageError(f"there is no engine {engine!r}", hint="mlx or llama.")
    if engine == "llama" or model.endswith(GGUF):
        gguf_file(model, models_dir)
        return "llama"
    try:
        model_directory(model, models_dir)
    except ModelError:
        if engine == "mlx" or not is_model_id(model):
            raise
        with contextlib.suppress(ModelError):
            gguf_file(model, models_dir)
            return "llama"
        raise
    return "mlx"


def remove(model: str, models_dir: Path) -> int:
    """Deletes a model's files; returns the bytes of its weights. Raises ModelError, UsageError."""
    try:
        place = model_directory(model, models_dir)
    except ModelError:
        if is_model_id(model) and not (models_dir / model).exists():
            raise ModelError(
                f"there is no model {model} on this machine", hint="`pylon models list` shows the models here."
            ) from None
        # Without `..` in the path.
        place = Path(os.path.normpath(gguf_file(model, models_dir)))
    if place.is_relative_to(PACKAGED):
        raise UsageError(
            f"{model} is part of Pylon and cannot be removed", hint="Only downloaded models can be removed."
        )
    if not place.is_relative_to(models_dir):
        raise UsageError(f"{place} is not one of Pylon's own models", hint="Delete it like any other file.")
    files = weight_files(place)
    size = sum(file.stat().st_size for file in files)
    directory = place if place.is_dir() else place.parent
    if directory == models_dir:
        for file in files:
            file.unlink()
        return size
    shutil.rmtree(directory)
    # The folder of the repository's owner, if it is empty now.
    if directory.parent != models_dir:
        with contextlib.suppress(OSError):
            directory.parent.rmdir()
    return size
