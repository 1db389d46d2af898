"""Whoever has heard nothing of a job for a while is told, once, the oldest first."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from pylon.provider.work.unheard import _AT_ONCE, Unheard

AFTER_S = 2.5


@given(st.lists(st.floats(0, 100), max_size=40).map(sorted), st.sets(st.integers(0, 39)), st.floats(0, 110))
def test_a_word_is_due_to_whoever_has_waited_for_it_and_heard_nothing(came, heard, now):
    unheard = Unheard(AFTER_S)
    for number, at in enumerate(came):
        unheard.add(SimpleNamespace(id=number), at)
    for number in heard:
        unheard.heard(number)
    still = [(number, at) for number, at in enumerate(came) if number not in heard]
    assert [job.id for job in unheard.due(now)] == [number for number, at in still if now - at >= AFTER_S]
    assert unheard.next_at() == (still[0][1] + AFTER_S if still else None)
    assert len(unheard) == len(still)


def test_a_thousand_words_are_not_said_in_one_breath():
    unheard = Unheard(AFTER_S)
    for number in range(1_000):
        unheard.add(SimpleNamespace(id=number), 0.0)
    assert [job.id for job in unheard.due(10.0)] == list(range(_AT_ONCE))
