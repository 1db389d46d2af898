from hypothesis import given
from hypothesis import strategies as st

from pylon.gateway.deltas import Deltas


@given(st.text(), st.lists(st.integers(0, 30)))
def test_the_pieces_make_the_answer(answer, lengths):
    deltas = Deltas()
    pieces = [deltas.take(answer[:length]) for length in lengths]
    last = deltas.end(answer)
    assert last is not None and "".join(pieces) + last == answer


@given(st.lists(st.text(alphabet="ab", max_size=4)), st.text(alphabet="ab", max_size=4))
def test_what_was_sent_is_how_the_answer_begins_or_there_is_none(texts, answer):
    deltas = Deltas()
    sent = "".join(deltas.take(text) for text in texts)
    last = deltas.end(answer)
    if answer.startswith(sent):
        assert last is not None and sent + last == answer
    else:
        assert last is None


def test_another_provider_s_text_is_waited_for_until_it_has_caught_up():
    deltas = Deltas()
    assert [deltas.take(text) for text in ("one", "o", "one two")] == ["one", "", " two"]
