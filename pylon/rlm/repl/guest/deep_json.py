"""Refuses JSON that is nested too deep for the sandbox in WebAssembly, before it is parsed.

CPython's JSON parser recurses in C. Elsewhere that ends in a RecursionError, but in WebAssembly some 1,000 levels end
the whole sandbox and lose its variables. A context or a sub-call's answer may hold such JSON.
"""

import json
import re
from typing import Any

# The most levels, though up to twice as many may be let through: enough for any data, and far from the stack's end.
DEEPEST = 200
# Text without brackets that count: strings, and anything that is not a bracket.
_NO_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^\[\]{}"]++', re.DOTALL)
# Text up to a string that is not closed, whose brackets count. Split off once, so that the search stays linear.
_ENDED = re.compile(r'(?:[^"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]++")


def is_deep(text: str) -> bool:
    """Whether a JSON text is nested more than `DEEPEST` levels deep. Up to twice as many may not be noticed."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    ended = _ENDED.match(text)
    end = 0 if ended is None else ended.end()
    brackets = _NO_BRACKETS.sub("", text[:end]) + _NO_BRACKET.sub("", text[end:])
    # Each round removes the innermost level, at the speed of C: a loop over characters would take minutes.
    for _ in range(DEEPEST):
        outer = brackets.replace("[]", "").replace("{}", "")
        if len(outer) == len(brackets):
            break
        brackets = outer
    return brackets.count("[") + brackets.count("{") > DEEPEST


def guard() -> None:
    """Makes `json` of this interpreter raise RecursionError for text that is nested too deep."""
    read = json.JSONDecoder.raw_decode
    # The hash of the text that was checked last, since code may read many values from one text. The text itself would
    # be kept in memory.
    shallow: list[int] = []

    def raw_decode(self: json.JSONDecoder, s: str, idx: int = 0) -> tuple[Any, int]:
        if isinstance(s, str) and hash(s) not in shallow:
            if is_deep(s[idx:]):
                raise RecursionError(f"this JSON is nested more than {DEEPEST} deep, which this sandbox cannot read")
            shallow[:] = [] if idx else [hash(s)]
        return read(self, s, idx)

    json.JSONDecoder.raw_decode = raw_decode  # type: ignore[method-assign]
