"""Text that every peer hashes, prints and stores alike."""

import re

# Relays disagree on how these hash, so that an event with one of them is a forged event to some; and a terminal
# takes some as orders. Tab and newlines stay.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text without control characters (tab and newlines stay) and lone surrogates."""
    return _CONTROL.sub("", text)


def is_clean(text: str) -> bool:
    """Whether `clean_text` would leave it as it is."""
    return _CONTROL.search(text) is None
