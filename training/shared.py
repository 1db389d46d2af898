"""The prompt format and task generator, loaded from the package's own files so that training cannot drift from use.

They are loaded by path, not by `import pylon`: PyTorch's CPU builds may lag behind the Python that Pylon needs,
and these two files need nothing but the standard library.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

MODELS = Path(__file__).resolve().parents[1] / "pylon" / "inference" / "models"


def _load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"needle_package.{name}", MODELS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_package = types.ModuleType("needle_package")
_package.__path__ = [str(MODELS)]
sys.modules["needle_package"] = _package
needle = _load("needle")
tasks = _load("needle_tasks")
