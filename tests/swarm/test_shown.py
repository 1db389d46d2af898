"""How much of an answer came in pieces."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.spending.shown import NOTHING, Shown, shown_by

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


@given(TEXT, st.lists(st.integers(1, 5), max_size=10), st.randoms())
def test_pieces_in_any_order_and_more_than_once_show_the_text_up_to_the_first_that_is_lost(text, cuts, rng) -> None:
    pieces, at = [], 0
    for cut in cuts:
        pieces.append((at, text[at : at + cut]))
        at = min(len(text), at + cut)
    lost = rng.randint(0, len(pieces))
    until = pieces[lost][0] if lost < len(pieces) else at
    came = [*pieces[:lost], *pieces[lost + 1 :], *pieces[:lost]]
    rng.shuffle(came)
    shown = shown_by(came)
    if lost < len(pieces) and pieces[lost][1]:
        assert shown == Shown(until, len(text[:until].encode()))
    else:
        assert shown == Shown(at, len(text[:at].encode()))


@given(st.lists(st.tuples(st.integers(0, 40), TEXT), max_size=10))
def test_no_more_is_shown_than_was_sent_and_no_offset_makes_up_for_it(pieces) -> None:
    shown = shown_by(pieces)
    assert shown.bytes <= sum(len(text.encode()) for _, text in pieces)
    assert shown.characters <= shown.bytes
    assert NOTHING.and_then(10**8, "x") == NOTHING
