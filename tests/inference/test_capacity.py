from pathlib import Path

import pytest

from pylon.inference.capacity import Capacity, load_capacity, save_capacity
from pylon.inference.child.messages import Beat
from pylon.inference.child.speed import Speed

MEASURED = Capacity(tokens_in_per_s=1000.5, tokens_out_per_s=100.0, slots=32, measured_at=1_700_000_000)


def test_each_model_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "capacity.json"
    save_capacity(path, "a", MEASURED)
    save_capacity(path, "b", MEASURED.model_copy(update={"slots": 1}))
    assert load_capacity(path, "a") == MEASURED
    assert load_capacity(path, "c") is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": {"slots": "many"}}', b"\xff"])
def test_a_broken_file_is_no_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "capacity.json"
    path.write_bytes(content)
    assert load_capacity(path, "a") is None
    save_capacity(path, "a", MEASURED)
    assert load_capacity(path, "a") == MEASURED


def test_it_is_told_until_the_engine_has_shown_its_own_speed() -> None:
    speed = Speed((1000.5, 100.0))
    assert (speed.prompt_per_s, speed.completion_per_s) == (1000.5, 100.0)
    speed.observe(Beat(10, 20, 2.0))
    assert (speed.prompt_per_s, speed.completion_per_s) == (5.0, 10.0)
