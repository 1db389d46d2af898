"""`pylon.records`: what a frozen dataclass promises, a record keeps, and the type checker guards."""

import copy
import pickle
import subprocess
import sys
from dataclasses import asdict, field, fields, replace

import pytest
from mypy import api

from pylon.records import record


@record
class Point:
    x: int
    y: int = 0
    names: tuple[str, ...] = field(default_factory=tuple)


@record
class Named(Point):
    name: str = ""


def test_records_are_equal_and_hashed_by_their_fields_and_by_their_class() -> None:
    assert Point(1, 2) == Point(1, y=2) != Point(1, 3)
    assert len({Point(1, 2), Point(1, 2), Point(1, 3)}) == 2
    assert Named(1, 2) != Point(1, 2)


def test_a_record_is_a_dataclass_with_slots() -> None:
    assert [f.name for f in fields(Named)] == ["x", "y", "names", "name"]
    assert replace(Named(1, 2), name="n") == Named(1, 2, (), "n")
    assert asdict(Point(1)) == {"x": 1, "y": 0, "names": ()}
    assert repr(Point(1)) == "Point(x=1, y=0, names=())"
    assert not hasattr(Named(1), "__dict__")
    match Named(1, 2, name="n"):
        case Point(x, y):
            assert (x, y) == (1, 2)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copied_or_pickled_record_is_the_same_value(again) -> None:
    value = Named(1, 2, ("a",), "n")
    assert again(value) == value


USE = """
from dataclasses import replace
from pylon.records import record

@record
class Point:
    x: int
    y: int = 0

point = replace(Point(1), y=2)
{}
"""


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("point.x", ""),
        ("point.x = 3", "read-only"),
        ("Point('1')", "incompatible type"),
        ("replace(point, z=1)", 'Unexpected keyword argument "z"'),
    ],
)
def test_the_type_checker_refuses_an_assignment_to_a_field(line: str, refusal: str, tmp_path_factory) -> None:
    cache = tmp_path_factory.getbasetemp() / "mypy"
    said, _, status = api.run(["--strict", "--config-file", "", "--cache-dir", str(cache), "-c", USE.format(line)])
    assert refusal in said
    assert bool(status) == bool(refusal)


def test_pythons_development_mode_refuses_it_at_run_time() -> None:
    command = [sys.executable, "-X", "dev", "-c", USE.format("point.x = 3")]
    assert b"FrozenInstanceError" in subprocess.run(command, capture_output=True).stderr
