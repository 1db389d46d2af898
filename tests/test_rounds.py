"""What is asked after again and again until it is known: whose turn it is, and rounds of real ones."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon import rounds
from pylon.rounds import Rounds, Turns
from tests.waiting import until


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(rounds, "SOON_S", 0.01)
    monkeypatch.setattr(rounds, "FIRST_S", 0.02)
    monkeypatch.setattr(rounds, "LONGEST_S", 0.04)


# --- whose turn it is -----------------------------------------------------------------------------------------------


def ask_all(turns, now, most=1_000):
    """One round of which nothing becomes known; the names."""
    taken = turns.take(now, most)
    for turn in taken:
        turns.put_back(turn, now)
    return [turn.name for turn in taken]


def test_one_that_stays_unknown_is_asked_after_with_pauses_that_grow_to_a_minute():
    turns, at = Turns(), []
    turns.add("a")
    now = 1_000.0
    while len(at) < 12:
        assert ask_all(turns, now) == ["a"]
        at.append(now)
        now = turns.next_at
    assert [b - a for a, b in pairwise(at)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_a_new_one_is_asked_after_before_all_others_and_changes_nothing_for_them():
    turns = Turns()
    for number in range(3_000):
        turns.add(f"old {number}")
    while ask_all(turns, 0.0):
        pass
    due = turns.next_at
    turns.add("new")
    assert turns.next_at < 0.0 and ask_all(turns, 0.0) == ["new"] and turns.next_at == due
    turns.add("newer")
    assert "newer" in ask_all(turns, due)
    assert len(turns) == 3_002


def test_those_that_are_due_at_almost_the_same_time_make_one_round():
    turns = Turns()
    for number in range(10):
        turns.add(f"{number}")
        ask_all(turns, 100.01 + number / 25)
    assert turns.next_at == 101.0 and len(ask_all(turns, 101.0)) == 10


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 5), st.integers(1, 4)), max_size=60), st.randoms())
def test_no_history_loses_a_name_asks_after_it_too_often_or_leaves_it_out_for_long(steps, rng):
    """New names, time that passes, and pages, at random; names become known at random."""
    turns, now, count = Turns(), 0.0, 0
    last: dict[str, float | None] = {}
    for new, passes, most in steps:
        for _ in range(new):
            turns.add(f"{count}")
            last[f"{count}"] = None
            count += 1
        now += passes
        while taken := turns.take(now, most):
            assert len(taken) <= most
            for turn in taken:
                before = last[turn.name]
                assert before is None or now - before >= rounds.FIRST_S
                last[turn.name] = now
                if rng.random() < 0.2:
                    del last[turn.name]
                else:
                    turns.put_back(turn, now)
        assert turns.next_at > now and len(turns) == len(last)
        assert all(before is not None for before in last.values())
    assert len(turns.take(now + rounds.LONGEST_S + rounds.FIRST_S, 10_000)) == len(last)


# --- rounds ---------------------------------------------------------------------------------------------------------


class Work:
    """Knows a name after so many rounds of it; `asked` is what each round was given."""

    def __init__(self, **rounds):
        self.left = rounds
        self.asked = []

    async def round(self, names):
        self.asked.append(sorted(names))
        for name in names:
            self.left[name] -= 1
        return [name for name in names if self.left[name] > 0]

    async def until(self, **left):
        await until(lambda: self.left == left)


async def test_each_is_asked_after_until_it_is_known_and_those_that_came_together_in_one_round(soon):
    work = Work(a=4, b=1)
    made = Rounds(work.round, "work")
    made.add("a")
    made.add("b")
    await work.until(a=0, b=0)
    await asyncio.sleep(0.1)
    assert work.asked == [["a", "b"], ["a"], ["a"], ["a"]]
    work.left = {"c": 1}
    made.add("c")
    await work.until(c=0)
    await made.close()


async def test_a_new_one_is_asked_after_at_once_and_alone_while_others_pause(monkeypatch):
    monkeypatch.setattr(rounds, "SOON_S", 0.01)
    monkeypatch.setattr(rounds, "FIRST_S", 1_000.0)
    work = Work(a=2, b=1, c=1)
    made = Rounds(work.round, "work")
    made.add("a")
    await work.until(a=1, b=1, c=1)
    made.add("b")
    await work.until(a=1, b=0, c=1)
    made.add("c")
    await work.until(a=1, b=0, c=0)
    assert work.asked == [["a"], ["b"], ["c"]]
    await made.close()


async def test_what_comes_up_during_a_round_has_one_of_its_own(soon):
    class Adding(Work):
        async def round(self, names):
            if not self.asked:
                made.add("b")
            return await super().round(names)

    work = Adding(a=1, b=1)
    made = Rounds(work.round, "work")
    made.add("a")
    await work.until(a=0, b=0)
    assert work.asked == [["a"], ["b"]]
    await made.close()


async def test_a_round_has_no_more_names_than_are_read_in_a_moment(soon):
    work = Work(**{f"{number}": 1 for number in range(2_500)})
    made = Rounds(work.round, "work")
    for name in work.left:
        made.add(name)
    await work.until(**dict.fromkeys(work.left, 0))
    assert [len(names) for names in work.asked] == [1_000, 1_000, 500]
    await made.close()


async def test_closed_nothing_is_asked_after_whatever_is_added(soon):
    work = Work(a=1_000, b=1)
    made = Rounds(work.round, "work")
    made.add("a")
    await until(lambda: work.asked)
    await made.close()
    done = len(work.asked)
    made.add("b")
    await asyncio.sleep(0.1)
    assert len(work.asked) == done
    await made.close()
    never = Rounds(work.round, "work")
    await never.close()
    never.add("b")
    assert never._task is None
