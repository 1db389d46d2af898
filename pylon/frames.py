"""Frames on the pipes between a process and its child: four bytes of length, then one JSON object."""

from collections.abc import Callable

import orjson

from pylon.errors import MalformedError, TooLargeError

# The largest JSON body of a frame.
FRAME_BYTES = 16 * 1024 * 1024
_HEADER_BYTES = 4


def encode(message: object) -> bytes:
    """One frame. Dataclasses become objects. Raises MalformedError for text that is not Unicode, or TooLargeError."""
    try:
        body = orjson.dumps(message, default=str)
    except orjson.JSONEncodeError as error:
        raise MalformedError(f"the message cannot be written as JSON: {error}") from None
    if len(body) > FRAME_BYTES:
        raise TooLargeError(f"the message is {len(body)} bytes long; a frame holds at most {FRAME_BYTES}")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameDecoder:
    """Takes bytes as they come and returns the messages that are complete.

    `look` is called with the JSON of each frame before it is parsed, and may raise MalformedError.
    """

    def __init__(self, look: Callable[[bytearray], None] | None = None) -> None:
        self._look = look
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """The messages that these bytes complete.

        Raises MalformedError or TooLargeError for anything that is not a frame; the stream cannot be read on.
        """
        self._buffer += data
        messages: list[dict[str, object]] = []
        while len(self._buffer) >= _HEADER_BYTES:
            size = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if size > FRAME_BYTES:
                raise TooLargeError(f"the frame claims {size} bytes; the maximum is {FRAME_BYTES}")
            end = _HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            body = self._buffer[_HEADER_BYTES:end]
            if self._look is not None:
                self._look(body)
            messages.append(_message(body))
            del self._buffer[:end]
        return messages


def _message(body: bytearray) -> dict[str, object]:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        # Not chained: the decoder's error carries the whole body, which may be a prompt or an answer.
        raise MalformedError("the frame is not valid JSON") from None
    if not isinstance(message, dict):
        raise MalformedError("the frame's JSON is not an object")
    return message
