"""Published vectors, as data."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow; that says nothing about the code.
settings.register_profile("no-deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-deadline")

_VECTORS = Path(__file__).parent.parent / "vectors"


def _load(name: str) -> Any:
    return json.loads((_VECTORS / name).read_text("utf-8"))


@pytest.fixture(scope="session")
def nip44_vectors() -> Any:
    return _load("nip44.vectors.json")["v2"]


@pytest.fixture(scope="session")
def nips_text_vectors() -> Any:
    return _load("nips-text-vectors.json")


@pytest.fixture(scope="session")
def serialization_vectors() -> Any:
    return _load("nip01-serialization.json")


@pytest.fixture(scope="session")
def bip340_vectors() -> list[dict[str, str]]:
    with (_VECTORS / "bip340-test-vectors.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
