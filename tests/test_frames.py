import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError, TooLargeError
from pylon.frames import FRAME_BYTES, FrameDecoder, encode

values = st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text() | st.none(), max_size=5)


@given(st.lists(values, max_size=5), st.integers(1, 50))
def test_messages_come_out_as_they_went_in_however_the_bytes_are_cut(messages: list[dict], cut: int) -> None:
    stream = b"".join(encode(message) for message in messages)
    decoder = FrameDecoder()
    out = [m for start in range(0, len(stream), cut) for m in decoder.feed(stream[start : start + cut])]
    assert out == messages


@pytest.mark.parametrize("body", [b"hello", b"[1]", b"3", b"", b'{"a":NaN}'])
def test_a_frame_that_holds_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        FrameDecoder().feed(len(body).to_bytes(4, "big") + body)


def test_a_frame_is_looked_at_before_it_is_read() -> None:
    seen = []

    def look(body: bytearray) -> None:
        seen.append(bytes(body))
        if body == b"[":
            raise MalformedError("looked at")

    decoder = FrameDecoder(look)
    assert decoder.feed(encode({"a": 1})) == [{"a": 1}]
    with pytest.raises(MalformedError, match="looked at"):
        decoder.feed(b"\0\0\0\1[")
    assert seen == [b'{"a":1}', b"["]


def test_a_length_over_the_limit_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(TooLargeError):
        FrameDecoder().feed((FRAME_BYTES + 1).to_bytes(4, "big"))


def test_a_message_over_the_limit_is_not_encoded() -> None:
    with pytest.raises(TooLargeError):
        encode({"text": "x" * FRAME_BYTES})


def test_text_that_is_no_unicode_is_not_encoded() -> None:
    with pytest.raises(MalformedError):
        encode({"text": "\ud800"})


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_typed_error(data: bytes) -> None:
    try:
        messages = FrameDecoder().feed(data)
    except (MalformedError, TooLargeError):
        return
    assert all(isinstance(message, dict) for message in messages)


def test_the_error_of_an_unreadable_frame_does_not_carry_its_text() -> None:
    with pytest.raises(MalformedError) as caught:
        FrameDecoder().feed(b"\x00\x00\x00\x06secret")
    assert caught.value.__cause__ is None
    assert "secret" not in str(caught.value)
