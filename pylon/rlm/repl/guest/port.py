"""The connection from inside the sandbox to the host: JSON messages, whatever carries them."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

type Message = dict[str, Any]

# The most bytes of one prompt as JSON, well under the host's limit for a frame.
PART_BYTES = 8 * 1024 * 1024
# Bytes of prompts in one message: both sides hold a message several times over while they write and read it.
GROUP_BYTES = 512 * 1024
_STEP = 4_096


class Port(Protocol):
    """A connection to the host. `ask` may be called by several threads at the same time."""

    def send(self, message: Message) -> None:
        """Sends a message that has no reply."""

    def ask(self, requests: Sequence[Message]) -> list[Message]:
        """Sends all requests, then waits for their replies, which are matched by `id`; in the requests' order."""


def json_bytes(text: str) -> int:
    """The bytes that a text takes in a message: a control character takes six."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


def cut(text: str, most_bytes: int) -> str:
    """The start of a text that takes at most so many bytes in a message, up to a few thousand characters less."""
    for start in range(0, len(text), _STEP):
        most_bytes -= json_bytes(text[start : start + _STEP])
        if most_bytes < 0:
            return text[:start]
    return text


def to_bytes(message: Message) -> bytes:
    """A message as JSON. Lone surrogates, which are not valid in JSON, become question marks."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
