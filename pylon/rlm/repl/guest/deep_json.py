"""JSON that is nested too deep, refused before anything goes down into it.

CPython's parser recurses in C. In WebAssembly that ends the whole sandbox some 1,000 levels down, and every variable
with it, where elsewhere it is a RecursionError. A sub-call's answer or a context may hold such JSON.
"""

import json
import re
from typing import Any

# Up to twice as many levels are let through: enough for any data, and far from where the stack ends.
DEEPEST = 200
# Strings, in which a bracket means nothing, and whatever else is none.
_NO_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^\[\]{}"]++', re.DOTALL)
# Up to a string that has no end; its brackets count. Found once, or each quote in it would be the begin of another.
_ENDED = re.compile(r'(?:[^"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]++")


def is_deep(text: str) -> bool:
    """Whether JSON in this text stands in more than `DEEPEST` lists and objects, give or take as many again."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    ended = _ENDED.match(text)
    end = 0 if ended is None else ended.end()
    brackets = _NO_BRACKETS.sub("", text[:end]) + _NO_BRACKET.sub("", text[end:])
    # Each time round goes the innermost level, at the speed of C: a scan of ours would take minutes for a context.
    for _ in range(DEEPEST):
        outer = brackets.replace("[]", "").replace("{}", "")
        if len(outer) == len(brackets):
            break
        brackets = outer
    return brackets.count("[") + brackets.count("{") > DEEPEST


def guard() -> None:
    """Has `json` of this interpreter raise RecursionError for what is too deep."""
    read = json.JSONDecoder.raw_decode
    # Of the text that was looked at last, as code reads one value after another from the same. The text itself would
    # be held in memory.
    shallow: list[int] = []

    def raw_decode(self: json.JSONDecoder, s: str, idx: int = 0) -> tuple[Any, int]:
        if isinstance(s, str) and hash(s) not in shallow:
            if is_deep(s[idx:]):
                raise RecursionError(f"this JSON is nested more than {DEEPEST} deep, which this sandbox cannot read")
            shallow[:] = [] if idx else [hash(s)]
        return read(self, s, idx)

    json.JSONDecoder.raw_decode = raw_decode  # type: ignore[method-assign]
