"""How guest code speaks to its host: one message out, one message in, whatever carries them."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

type Message = dict[str, Any]

# One prompt as JSON, well under the host's frame limit.
PART_BYTES = 8 * 1024 * 1024
# Both sides hold a message several times over while they write and read it, so many prompts travel in smaller parts.
GROUP_BYTES = 512 * 1024
_STEP = 4_096


class Port(Protocol):
    """A way to the host. `ask` may be called by many threads at once where there are threads."""

    def send(self, message: Message) -> None:
        """Sends what nobody replies to."""

    def ask(self, requests: Sequence[Message]) -> list[Message]:
        """Sends all of them, then waits for each one's reply (matched by `id`), in order."""


def json_bytes(text: str) -> int:
    """How many bytes it takes in a message: control characters take six."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


def cut(text: str, most_bytes: int) -> str:
    """The start of it that takes so many bytes in a message at most, to a few thousand characters."""
    for start in range(0, len(text), _STEP):
        most_bytes -= json_bytes(text[start : start + _STEP])
        if most_bytes < 0:
            return text[:start]
    return text


def to_bytes(message: Message) -> bytes:
    """Lone surrogates, which JSON's readers refuse, become question marks."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
