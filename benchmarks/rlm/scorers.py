"""The paper's scorers: exact match, 0.75 to the power of the error for numbers (OOLONG), F1 for sets of pairs.

Pure. What a model says around its answer is forgiven only as far as written here.
"""

from __future__ import annotations

import re
import string

PER_MISS = 0.75
"""The factor on a numeric answer's score for each unit that it is off (OOLONG; the paper, section 3)."""

_PAIR = re.compile(r"\(?\s*(\d+)\s*[,;]\s*(\d+)\s*\)?")
_NUMBER = re.compile(r"-?\d+")


def normal(text: str) -> str:
    """Lower case, single spaces, no quotes, no full stop at the end, nothing before the last `answer:`."""
    text = re.split(r"(?i)\b(?:answer|label|user)\s*:", text)[-1]
    return " ".join(text.lower().split()).strip(string.whitespace + "\"'`*.")


def exact(gold: str, said: str) -> float:
    """1 if both are equal after `normal`, else 0."""
    return float(normal(said) == normal(gold))


def contains(gold: str, said: str) -> float:
    """1 if the answer holds the gold answer as a word and no other number (S-NIAH), else 0."""
    words = re.findall(r"\w+", said)
    return float(gold in words and all(word == gold for word in words if word.isdigit() and len(word) == len(gold)))


def numeric(gold: int, said: str) -> float:
    """0.75 to the power of the distance between the gold number and the last number in the answer; 0 without one."""
    numbers = _NUMBER.findall(normal(said).replace(",", ""))
    return PER_MISS ** abs(int(numbers[-1]) - gold) if numbers else 0.0


def pairs(text: str) -> set[tuple[int, int]]:
    """The pairs of numbers in a text, the lower one first."""
    found = ((int(a), int(b)) for a, b in _PAIR.findall(text))
    return {(min(pair), max(pair)) for pair in found}


def f1(gold: set[tuple[int, int]], said: str) -> float:
    """The harmonic mean of precision and recall; 1 when both sets are empty."""
    given = pairs(said)
    if not gold and not given:
        return 1.0
    right = len(gold & given)
    return 2 * right / (len(gold) + len(given))
