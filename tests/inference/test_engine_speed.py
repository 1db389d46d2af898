import pytest

from pylon.inference.child.messages import Beat
from pylon.inference.child.speed import Speed


def test_before_any_work_the_speed_is_zero() -> None:
    speed = Speed()
    speed.observe(Beat(0, 0, 0.0))
    assert (speed.prompt_per_s, speed.completion_per_s) == (0.0, 0.0)


def test_idle_time_does_not_slow_the_engine_down() -> None:
    speed = Speed()
    speed.observe(Beat(1000, 100, 2.0))
    for _ in range(100):
        speed.observe(Beat(1000, 100, 2.0))
    assert speed.prompt_per_s == pytest.approx(500)
    assert speed.completion_per_s == pytest.approx(50)


def test_recent_work_counts_most() -> None:
    speed = Speed()
    speed.observe(Beat(0, 1000, 10.0))
    speed.observe(Beat(0, 2000, 310.0))
    assert 3.3 < speed.completion_per_s < 3.7


def test_a_new_child_counts_from_zero_without_a_negative_speed() -> None:
    speed = Speed()
    speed.observe(Beat(1000, 100, 10.0))
    speed.observe(Beat(10, 1, 0.1))
    assert speed.prompt_per_s == pytest.approx(100, rel=0.01)


def test_a_new_child_that_was_busier_at_its_first_beat_counts_from_zero_too() -> None:
    speed = Speed()
    speed.observe(Beat(1000, 100, 0.1))
    speed.observe(Beat(10, 1, 0.4))
    assert speed.prompt_per_s == pytest.approx(1010 / 0.5, rel=0.01)
