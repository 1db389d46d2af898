"""Customers that have never paid: a flood of new keys does not lock out who comes after it, or over another relay."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from pylon.provider.payments.fair_queue import PATIENCE_S, FairQueue


def job(id_: str, relay: str, at: float) -> SimpleNamespace:
    return SimpleNamespace(id=id_, relay=relay, received_at=at)


@given(st.lists(st.sampled_from("abc"), max_size=60), st.sampled_from("abcd"), st.integers(0, 10))
def test_who_comes_after_a_flood_has_its_turn_within_one_turn_a_relay(flood, relay, served_before):
    line = FairQueue()
    for number, through in enumerate(flood):
        assert line.add(job(f"silent {number}", through, 0.0))
    for _ in range(served_before):
        if (turn := line.next()) is not None:
            line.served(turn.id)
    assert line.add(job("newcomer", relay, 1.0))
    turns, relays = 0, line.relays
    while (turn := line.next()) is not None and turn.id != "newcomer":
        line.served(turn.id)
        turns += 1
    assert turn is not None
    assert turns < relays


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=30))
def test_a_relay_whose_newcomers_come_one_by_one_leaves_the_others_their_turns(comes):
    line, turns = FairQueue(), []
    for number in range(20):
        line.add(job(f"waits {number}", "c", 0.0))
    for number, relay in enumerate(comes):
        line.add(job(f"new {number}", relay, 1.0))
        served = line.next()
        turns.append(served.relay)
        line.served(served.id)
    assert turns.count("c") >= len(turns) // 3


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 200)), min_size=1, max_size=40))
def test_room_is_made_by_the_fullest_relay_alone_and_by_nobody_within_a_minute(came):
    room, now = FairQueue(), 200.0
    came = sorted(came, key=lambda one: one[1])
    for number, (relay, at) in enumerate(came):
        room.add(job(str(number), relay, at))
    goes = room.makes_room(now)
    relays = [relay for relay, _ in came]
    if goes is not None:
        assert now - goes.received_at >= PATIENCE_S
        assert relays.count(goes.relay) == max(map(relays.count, "ab"))
        assert goes.received_at == min(at for relay, at in came if relay == goes.relay)
        room.remove(goes.id)
        assert goes.id not in room
        assert len(room) == len(came) - 1
    elif relays.count("a") != relays.count("b"):
        fullest = max("ab", key=relays.count)
        assert all(now - at < PATIENCE_S for relay, at in came if relay == fullest)


def test_a_job_is_here_once_and_one_that_is_not_can_go():
    line = FairQueue()
    assert line.add(job("one", "a", 0.0))
    assert not line.add(job("one", "a", 0.0))
    line.remove("two")
    line.served("two")
    assert [one.id for one in line] == ["one"]
    line.remove("one")
    assert (len(line), line.relays, line.next(), line.makes_room(1e9)) == (0, 0, None, None)
