"""Relays that lose what they took: when they are avoided, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.wire.relay_record import AVOIDED_S, PAUSE_S, RelayRecord

A, B = "ws://a", "ws://b"


def losing(times: int, relay: str = A) -> RelayRecord:
    record = RelayRecord()
    for _ in range(times):
        record.lost(relay, 0.0)
    return record


def test_a_relay_that_loses_a_few_in_a_row_is_avoided_and_one_that_lost_once_is_not():
    assert losing(1).avoided(0.0) == frozenset()
    assert losing(4).avoided(0.0) == {A}


def test_it_is_tried_again_and_avoided_at_its_next_loss_or_not_when_it_delivers():
    for delivers in (False, True):
        record = losing(4)
        assert record.avoided(AVOIDED_S - 1) == {A}
        assert record.avoided(AVOIDED_S) == frozenset()
        for _ in range(20 * delivers):
            record.delivered(A)
        record.lost(A, AVOIDED_S)
        assert record.avoided(AVOIDED_S) == (frozenset() if delivers else {A})


def test_a_relay_that_takes_no_more_has_a_pause_from_when_it_last_said_so():
    record = RelayRecord()
    for said_at in (0.0, 10.0):
        record.refused(A, said_at)
        assert record.avoided(said_at) == {A}
    assert record.avoided(PAUSE_S + 9) == {A}
    assert record.avoided(PAUSE_S + 10) == frozenset()


@given(st.lists(st.booleans(), max_size=20))
def test_a_relay_is_avoided_from_the_second_event_in_a_row_that_it_calls_invalid(accepts):
    record, in_a_row, second = RelayRecord(), 0, False
    for accepted in accepts:
        in_a_row = 0 if accepted else in_a_row + 1
        second |= in_a_row == 2
        if accepted:
            record.accepted(A)
        else:
            record.refused(A, 0.0, invalid=True)
        assert (A in record.avoided(0.0)) is second


def test_a_relay_that_stalls_has_one_pause_however_many_requests_wait_and_a_long_one_when_it_goes_on_so():
    record = RelayRecord()
    for said_at in (0.0, 1.0, 2.0):
        record.silent(A, said_at)
    assert record.avoided(PAUSE_S - 1) == {A}
    assert record.avoided(PAUSE_S) == frozenset()
    record.silent(A, PAUSE_S)
    record.silent(A, 2 * PAUSE_S)
    assert record.avoided(2 * PAUSE_S + AVOIDED_S - 1) == {A}
    assert record.avoided(2 * PAUSE_S + AVOIDED_S) == frozenset()


@given(st.lists(st.booleans(), max_size=200))
def test_one_that_delivers_nine_in_ten_is_seldom_avoided_and_others_have_no_part_in_it(order):
    record = RelayRecord()
    for number, _ in enumerate(order):
        record.delivered(A)
        if number % 10 == 0:
            record.lost(A, float(number))
        record.lost(B, float(number))
        assert A not in record.avoided(float(number))
    assert (B in record.avoided(float(len(order)))) is (len(order) >= 3)
