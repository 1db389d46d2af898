"""Finds where an answer in prose ends: the bracket that closes `FINAL(…`. Pure.

Models also use brackets for list points (`1)`, `a)`) and smileys, forget the closing one, or write on after it.
"""

import re
from collections.abc import Iterator

# What comes before the bracket of a list point, `1)` or `a)`: of any point, of the first one if it begins a line or
# follows punctuation, and of the second one.
_POINT = re.compile(r"(?:^|[\s(:,;])(?:\d{1,2}|[A-Za-z])\Z")
_FIRST = re.compile(r"[\n:,;(]\s{0,4}(?:1|[aA])\Z")
_SECOND = re.compile(r"[\s(:,;](?:2|[bB])\Z")
_ALONE = re.compile(r"[ \t]*\w{1,2}")
_LONE = re.compile(r"[\s(:,;]\w\Z")
# What follows the bracket of a list point, a bracket within a formula, and a bracket that ends its line.
_GOES_ON = re.compile(r"[ \t]*[^\s.,;:!?)]")
_FORMULA = re.compile(r"[\w=+/^<>]")
_LINE_ENDS = re.compile(r"[^\w()\n]*(?:\n|\Z)")
_BRACKET = re.compile(r"[()]")
_SMILE = re.compile(r"[:;]-?\Z")


def inside(text: str) -> str:
    """The text up to the bracket that closes it; all of it if none does."""
    end = _closing(text, smiles=False)
    if end is None:
        end = _closing(text, smiles=True)
    return text[:end]


def is_closed(text: str) -> bool:
    """Whether a bracket closes the text for certain, whatever may follow: one that belongs to no list point and no
    smiley."""
    return any(not _is_point(text, place) for place in _unopened(text, smiles=False))


def _closing(text: str, *, smiles: bool) -> int | None:
    """The place of the closing bracket: the first without an opening one that does not end a list point.

    A list (`Found: 1) … 2) …`) may span lines. If the first candidate could belong to a list point or a formula but
    no list is seen, a bracket that ends the same line closes. A single point (`FINAL(A) since B) is late`) is an
    answer, unless the line goes on with the second point and ends with a bracket of neither. With `smiles` the
    brackets of `:)` count too.
    """
    closes = _unopened(text, smiles=smiles)
    first = next(closes, None)
    if first is None or not (_is_point(text, first) or _FORMULA.match(text, first + 1)):
        return first
    line = text.find("\n", first)
    alone = _ALONE.fullmatch(text, 0, first) is not None
    listed = _before(_FIRST, text, first)
    second = False
    for place in closes:
        if not second:
            second = _before(_SECOND, text, place)
            listed = listed and second
            if alone and not second:
                return first
        if listed:
            if not _is_point(text, place):
                return place
        elif 0 <= line < place:
            return first
        elif _LINE_ENDS.match(text, place + 1):
            return first if alone and _before(_LONE, text, place) else place
    return None if listed and second else first


def _unopened(text: str, *, smiles: bool) -> Iterator[int]:
    """The places of closing brackets that have no opening one."""
    depth = 0
    for found in _BRACKET.finditer(text):
        place = found.start()
        if not smiles and _SMILE.search(text, max(0, place - 2), place):
            continue
        if found[0] == "(":
            depth += 1
        elif depth:
            depth -= 1
        else:
            yield place


def _is_point(text: str, place: int) -> bool:
    return _before(_POINT, text, place) and _GOES_ON.match(text, place + 1) is not None


def _before(pattern: re.Pattern[str], text: str, place: int) -> bool:
    return pattern.search(text, max(0, place - 6), place) is not None
