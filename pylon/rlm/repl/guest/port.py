"""How guest code speaks to its host: one message out, one message in, whatever carries them."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

type Message = dict[str, Any]

# Under the host's frame limit, with room for JSON's escapes of ordinary text.
PART_BYTES = 8 * 1024 * 1024
# Both sides hold a message several times over while they write and read it, so many prompts travel in smaller parts.
GROUP_BYTES = 512 * 1024


class Port(Protocol):
    """A way to the host. `ask` may be called by many threads at once where there are threads."""

    def send(self, message: Message) -> None:
        """Sends what nobody replies to."""

    def ask(self, requests: Sequence[Message]) -> list[Message]:
        """Sends all of them, then waits for each one's reply (matched by `id`), in order."""


def to_bytes(message: Message) -> bytes:
    """Lone surrogates, which JSON's readers refuse, become question marks."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
