from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.stops import find_stop, settled

texts = st.text("abc\n", max_size=30)
stops = st.lists(st.text("abc\n", min_size=1, max_size=4), max_size=3)


@given(texts, stops)
def test_the_earliest_stop_string_counts(text: str, stops: list[str]) -> None:
    places = [text.find(stop) for stop in stops if stop in text]
    assert find_stop(text, stops) == (min(places) if places else None)


@given(st.text("abc\n", max_size=8), st.text("abc\n", min_size=1, max_size=4), texts, stops, st.integers(0, 3))
def test_searching_only_what_grew_misses_nothing(
    before: str, stop: str, after: str, others: list[str], begun: int
) -> None:
    # Up to here it was searched: most often to somewhere amid the stop string.
    text, searched = before + stop + after, len(before) + min(begun, len(stop) - 1)
    if find_stop(text[:searched], [stop, *others]) is None:
        assert find_stop(text, [stop, *others], searched) == find_stop(text, [stop, *others])


@given(texts, stops, texts)
def test_settled_text_is_never_taken_back(text: str, stops: list[str], later: str) -> None:
    if find_stop(text, stops) is not None:
        return
    end = find_stop(text + later, stops)
    assert end is None or settled(text, stops) <= end


@given(texts, stops)
def test_no_more_text_is_held_back_than_a_stop_string_may_need(text: str, stops: list[str]) -> None:
    held = len(text) - settled(text, stops)
    assert held <= max((len(stop) - 1 for stop in stops), default=0)
    assert not held or any(stop.startswith(text[-held:]) for stop in stops)


def test_an_empty_stop_string_stops_nothing() -> None:
    assert find_stop("abc", ("",)) is None
    assert settled("abc", ("",)) == 3
