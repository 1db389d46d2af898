"""What of an answer counts as sent: as many pieces from its beginning as relays have."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.engine import Progress
from pylon.money.accounts.usage import Usage
from pylon.provider.work.pieces import Pieces
from pylon.text import clean_text

STEPS = st.lists(st.tuples(st.text(max_size=6), st.integers(0, 9), st.floats(0, 2)), max_size=12)


@given(STEPS, st.randoms())
def test_pieces_put_together_are_the_text_and_what_counts_as_sent_has_no_gap(steps, rng) -> None:
    pieces, text, tokens, now, out = Pieces(1.0), "", 0, 0.0, []
    for added, more, passed in steps:
        text, tokens, now = text + added, tokens + more, now + passed
        before = sum(len(piece.text) for piece in out)
        piece = pieces.next(Progress("a", text, tokens, 5), now)
        if piece is not None:
            assert piece.offset == before
            out.append(piece)
    assert clean_text(text).startswith("".join(piece.text for piece in out))
    order = list(out)
    rng.shuffle(order)
    for piece in order[: rng.randint(0, len(order))]:
        pieces.taken(piece)
    whole = []
    for piece in out:
        if not piece.taken:
            break
        whole.append(piece)
    assert pieces.sent == (whole[-1].sent if whole else None)
    if pieces.sent is not None:
        assert pieces.sent.completion_tokens <= sum(len(piece.text.encode()) for piece in whole)
        assert pieces.sent.completion_tokens <= tokens


def test_tokens_whose_text_is_held_back_were_not_sent() -> None:
    pieces = Pieces(1.0)
    piece = pieces.next(Progress("a", "ab", 40, 3), 0.0)
    assert piece is not None
    pieces.taken(piece)
    assert pieces.sent == Usage(3, 2)


def test_no_more_than_one_piece_goes_out_in_a_while() -> None:
    pieces = Pieces(1.0)
    assert pieces.next(Progress("a", "a", 1), 5.0) is not None
    assert pieces.next(Progress("a", "ab", 2), 5.9) is None
    piece = pieces.next(Progress("a", "abc", 3), 6.0)
    assert piece is not None
    assert (piece.offset, piece.text) == (1, "bc")


def test_an_engine_that_writes_another_text_when_it_begins_anew_adds_nothing_to_the_pieces_that_are_out() -> None:
    pieces = Pieces(1.0)
    assert pieces.next(Progress("a", "Once upon", 2), 1.0) is not None
    assert pieces.next(Progress("a", "There was a king", 4), 3.0) is None
    piece = pieces.next(Progress("a", "Once upon a time", 4), 5.0)
    assert piece is not None
    assert (piece.offset, piece.text) == (9, " a time")
