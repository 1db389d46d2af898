"""Text that every peer hashes, prints and stores alike."""

import re

# Relays disagree on how these are serialized, so an event with one of them looks forged to some; and terminals obey
# some of them. Tab and newlines stay.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# What else makes a line look like two, or like another one: line ends, and marks that turn the direction of writing.
_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def clean_text(text: str) -> str:
    """The text without control characters (tab and newlines stay) and lone surrogates."""
    return _CONTROL.sub("", text)


def is_clean(text: str) -> bool:
    """Whether `clean_text` would leave it as it is."""
    return _CONTROL.search(text) is None


def whole_characters(text: str) -> str:
    """The text with each pair of UTF-16 surrogates joined into its character; a lone one, which UTF-8 cannot encode,
    becomes U+FFFD.
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean_line(text: str) -> str:
    """A name or a short text as one line, without what could make it look like several lines or like another text."""
    return text if text.isprintable() else _LINE.sub("", " ".join(text.split("\n")))


def is_line(text: str) -> bool:
    """Whether `clean_line` would leave it as it is."""
    return _LINE.search(text) is None


def as_cell(name: str) -> str:
    """A name as a CSV cell. What a spreadsheet would take for a formula gets an apostrophe, which marks text."""
    return f"'{name}" if name.startswith(_FORMULA) else name


def escaped_in_json(line: str) -> str:
    """JSON text of the same value, with the characters that `clean_line` removes written as escapes."""
    return _LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def counted(number: int, noun: str, many: str = "") -> str:
    """A number and its noun: `1 provider`, `1,200 providers`. `many` is the plural if it is not the noun and an s."""
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"
