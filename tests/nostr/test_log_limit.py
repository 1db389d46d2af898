"""How many log lines one relay can cause."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from pylon.nostr.client.log_limit import BURST, EVERY_S, LogLimit


def test_the_first_are_told_and_then_one_a_minute_with_how_many_were_left_out() -> None:
    limit = LogLimit()
    assert [limit.admit(1_000.0) for _ in range(BURST)] == [{}] * BURST
    assert [limit.admit(1_000.0 + n) for n in range(40)] == [None] * 40
    assert limit.admit(1_000.0 + EVERY_S) == {"left_out": 40}
    assert limit.admit(1_000.0 + EVERY_S) is None
    # A relay that was quiet for long has its say again.
    assert [limit.admit(1e6) for _ in range(BURST + 1)] == [{"left_out": 1}, *[{}] * (BURST - 1), None]


@given(st.lists(st.floats(0.0, 200.0), max_size=200))
def test_however_they_come_each_is_told_or_counted_and_few_are_told(pauses: list[float]) -> None:
    limit, told, counted, untold = LogLimit(), 0, 0, 0
    for now in accumulate(pauses, initial=5.0):
        beside = limit.admit(now)
        if beside is None:
            untold += 1
        else:
            told, counted = told + 1, counted + beside.get("left_out", 0)
            assert counted == untold
    assert told <= BURST + sum(pauses) / EVERY_S + 1e-6
    assert told + untold == len(pauses) + 1
