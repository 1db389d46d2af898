"""How many forgeries a relay may pass on: as many as cost next to nothing, however long it does so."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.nostr.client.tolerance import BURST, PER_SECOND, tolerance


@given(st.lists(st.floats(1 / PER_SECOND, 1e6), max_size=200))
def test_a_trickle_of_forgeries_never_ends_a_connection(gaps):
    allowance, now = tolerance(), 5.0
    for gap in gaps:
        now += gap
        assert allowance.take(now)


@given(st.floats(0, 1e6), st.floats(0, 50))
def test_a_flood_ends_it_however_quiet_it_was_before(quiet, spread_s):
    allowance = tolerance()
    assert allowance.take(0.0)
    most = BURST + int(spread_s * PER_SECOND) + 1
    answers = [allowance.take(quiet + spread_s * number / most) for number in range(most + 1)]
    assert all(answers[: BURST - 1])
    assert not all(answers)
