"""A payment that is there is found in any list; one that is not is given up only where the list shows it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.money.nwc.listing import PAGE, SLACK_S, Search
from tests.money.craft import NOW

PAGES = 100


def listed(*items: tuple[str, int]) -> list[dict[str, object]]:
    return [{"payment_hash": payment_hash, "created_at": at} for payment_hash, at in items]


def seek(search: Search, everything: list[dict[str, object]], *, honours_from: bool, page: int = PAGE) -> int:
    """Has it read a wallet's list; how many pages it took."""
    for number in range(PAGES):
        params = search.params
        shown = [one for one in everything if not honours_from or one["created_at"] >= params["from"]]  # type: ignore[operator]
        begin = params.get("offset", 0)
        search.take(shown[begin : begin + page])
        if search.is_over or search.is_stuck:
            return number + 1
    return PAGES


OTHERS = st.lists(st.integers(NOW - 10**6, NOW + 10**5), max_size=150)


@given(OTHERS, st.integers(-SLACK_S, 10**5), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_a_payment_that_is_listed_is_found_in_whatever_order(others, later, honours_from, in_order, rng):
    everything = listed(("it", NOW + later), *((f"h{number}", at) for number, at in enumerate(others)))
    rng.shuffle(everything)
    if in_order:
        everything.sort(key=lambda one: -one["created_at"])
    search = Search("it", NOW)
    seek(search, everything, honours_from=honours_from)
    assert search.found is not None and search.is_over


@given(OTHERS, st.booleans())
def test_one_that_is_not_there_is_given_up(others, honours_from):
    everything = listed(*((f"h{number}", at) for number, at in enumerate(sorted(others, reverse=True))))
    search = Search("it", NOW)
    seek(search, everything, honours_from=honours_from)
    assert search.is_over and search.found is None


@pytest.mark.parametrize(("answer", "over"), [([], True), ([1, None], True), (None, True), ({}, False), ("", False)])
def test_only_a_list_shows_that_a_payment_is_not_there(answer, over):
    search = Search("it", NOW)
    search.take(answer)
    assert (search.is_over, search.is_stuck) == (over, not over)


def test_a_list_in_order_is_read_no_further_than_the_payment_can_lie():
    new, old = [(f"n{n}", NOW) for n in range(25)], [(f"o{n}", NOW - SLACK_S - 1 - n) for n in range(5_000)]
    search = Search("it", NOW)
    assert seek(search, listed(*new, *old), honours_from=False) == 2
    assert search.is_over and search.found is None


def test_a_list_out_of_order_is_read_to_its_end():
    for step in (0, 1):
        old = [(f"o{n}", NOW - 10**5 + step * n) for n in range(30)]
        search = Search("it", NOW)
        assert seek(search, listed(*old, *((f"n{n}", NOW + n) for n in range(30))), honours_from=False) == 4
        assert search.is_over


def test_a_list_that_rises_once_shows_nothing_of_what_comes_later():
    jagged = [(f"h{n}", NOW - 10**5 * (n % 2)) for n in range(60)]
    search = Search("it", NOW)
    assert seek(search, listed(*jagged, ("it", NOW)), honours_from=False) == 4
    assert search.found is not None


def test_a_page_that_comes_again_says_nothing_of_what_lies_beyond():
    search, page = Search("it", NOW), listed(*((f"h{n}", NOW) for n in range(PAGE)))
    search.take(page)
    assert not search.is_over and not search.is_stuck
    search.take(page)
    assert search.is_stuck and not search.is_over


def test_a_list_without_times_is_read_as_far_as_it_can_be():
    for at in (None, "5", True, 1.5):
        search = Search("it", NOW)
        search.take([{"payment_hash": f"h{n}", "created_at": at} for n in range(PAGE)])
        assert not search.is_over
