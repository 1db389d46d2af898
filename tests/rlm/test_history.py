"""The chat that the root sees, within its window."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.rlm.history import History, cut
from pylon.rlm.root import estimate_tokens


def test_the_newest_turns_stay_whole_and_the_oldest_are_cut_first():
    history = History("system", "task", limit_tokens=3_000)
    for number in range(6):
        history.add(f"reply {number} " + "r" * 1_000, f"shown {number} " + "s" * 2_000)
    chat = history.messages()
    assert history.compactions == 1
    assert "left out" in chat[2].content and "reply 0" in chat[2].content
    assert len(chat[-1].content) > 2_000 and chat[0].content == "system"


def test_however_often_a_chat_is_compacted_it_tells_how_long_a_text_was():
    history = History("system", "task", limit_tokens=3_000)
    for _ in range(12):
        history.add("r" * 40_000, "s" * 5_000, reply_chars=20_000)
        notes = [message.content.count("left out …") for message in history.messages()[2:]]
        assert max(notes) <= 1
    assert history.compactions == 12
    for message in history.messages()[2:]:
        assert "of 40,000 characters" in message.content or "of 5,000 characters" in message.content


def test_a_chat_that_fits_is_not_touched():
    history = History("system", "task", limit_tokens=10_000)
    history.add("a", "b")
    assert [message.content for message in history.messages()] == ["system", "task", "a", "b"]
    assert history.compactions == 0


@given(
    turns=st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 9_000)), min_size=1, max_size=12),
    limit=st.integers(900, 5_000),
)
def test_whatever_was_said_the_chat_fits_the_window(turns, limit):
    history = History("s" * 400, "t" * 200, limit_tokens=limit)
    for reply, shown in turns:
        history.add("r" * reply, "s" * shown)
        chat = history.messages()
        assert estimate_tokens(chat) <= limit
        assert [message.role for message in chat[2:]] == ["assistant", "user"] * (len(chat) // 2 - 1)


@given(st.text(max_size=500), st.integers(10, 400))
def test_a_cut_keeps_both_ends_and_says_how_much_is_missing(text, limit):
    short = cut(text, limit)
    if len(text) <= limit:
        assert short == text
    else:
        assert f"{len(text) - limit:,} of {len(text):,}" in short
        assert short.startswith(text[: limit * 2 // 3]) and short.endswith(text[-(limit - limit * 2 // 3) :])
