"""The last so many, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.latest import Latest


@given(st.lists(st.tuples(st.integers(0, 6), st.integers())), st.integers(1, 4))
def test_what_came_last_is_known_with_its_latest_value_and_everything_else_is_forgotten(history, most):
    latest: Latest[int, int] = Latest(most)
    for key, value in history:
        latest.put(key, value)
    known: dict[int, int] = {}
    for key, value in reversed(history):
        if key not in known and len(known) < most:
            known[key] = value
    assert {key: latest.get(key) for key in range(7) if key in latest} == known
    assert len(latest) == len(known)


def test_whoever_is_only_looked_at_is_none_the_later_for_it():
    latest: Latest[str, int] = Latest(2)
    latest.put("a", 1)
    latest.put("b", 2)
    assert latest.get("a") == 1 and "a" in latest
    latest.put("c", 3)
    assert latest.get("a") is None and latest.get("b") == 2
