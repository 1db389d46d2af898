"""Which JSON the guest takes for too deep."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pylon.rlm.repl.guest.deep_json import DEEPEST, is_deep

_VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\ab\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='[{"\\'), inner),
    max_leaves=40,
)


@given(_VALUES, st.integers(0, 3 * DEEPEST), st.booleans())
def test_what_is_deep_is_told_from_what_is_not_whatever_its_strings_hold(value, around, listed):
    text = json.dumps([value, ["[" * 300] * 60])
    text = "[" * around + text + "]" * around if listed else '{"[": ' * around + text + "}" * around
    if around > 2 * DEEPEST:
        assert is_deep(text)
    # What hypothesis makes is some levels deep by itself.
    if around < DEEPEST - 50:
        assert not is_deep(text)


def test_json_that_never_ends_or_is_none_is_not_let_down_into_either():
    assert is_deep("[" * 1_000)
    assert is_deep('["' + "[" * 1_000)
    assert is_deep('{"a":[' * 1_000)
    assert not is_deep("]" * 1_000 + "[" * 100)


def test_a_text_that_has_no_end_is_looked_at_once():
    # Were each quote the begin of another text, this would take hours.
    assert is_deep('["' + '[\\"' * 1_000_000)
    assert not is_deep('["' + '[\\"' * 1_000_000 + '"' + "]" * 300)
