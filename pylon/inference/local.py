"""The models on this machine: which there are, and letting one go."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import ModelError, UsageError
from pylon.inference.weights import PACKAGED, model_directory, weight_files


@dataclass(frozen=True, slots=True)
class LocalModel:
    """`size` is that of its weights, in bytes; a `packaged` one came with Pylon."""

    id: str
    directory: Path
    size: int
    packaged: bool


def local_models(models_dir: Path) -> list[LocalModel]:
    """Those that came with Pylon, then those under `models_dir`, by name."""
    found: list[LocalModel] = []
    for root in (PACKAGED, models_dir):
        for config in sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")]):
            directory = config.parent
            if directory.name.endswith(".partial"):
                continue
            with contextlib.suppress(ModelError):
                size = sum(file.stat().st_size for file in weight_files(directory))
                found.append(LocalModel(str(directory.relative_to(root)), directory, size, root is PACKAGED))
    return found


def remove(model: str, models_dir: Path) -> int:
    """Deletes a model's files; says how many bytes its weights had. Raises ModelError, UsageError."""
    directory = model_directory(model, models_dir)
    if directory.is_relative_to(PACKAGED):
        raise UsageError(f"{model} came with Pylon and goes with it", hint="Only fetched models can be removed.")
    size = sum(file.stat().st_size for file in weight_files(directory))
    shutil.rmtree(directory)
    # Its owner's folder, when nothing else is in it.
    if directory.parent != models_dir:
        with contextlib.suppress(OSError):
            directory.parent.rmdir()
    return size
