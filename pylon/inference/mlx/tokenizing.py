"""Tokenizes chats, and tokenizes a prefix that the texts of a customer share only once.

To tokenize a long instruction anew for each piece takes as long as a small model needs to read the piece.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding, Tokenizer

from pylon.inference.batching.prefixes import common_length

# Looking for a shorter prefix takes longer than it saves.
_LEAST_CHARS = 256
# A prefix ends so many characters before the texts differ, since the text after it can change the last tokens.
_MARGIN_CHARS = 64
_MOST_CUSTOMERS = 16
# Pre-tokenizers with which the tokens of a word do not depend on the text before it.
_BY_WORDS = {"Sequence", "Split", "ByteLevel", "Digits", "Punctuation"}
_LOOKS_BACK = ("(?<", "\\b", "\\B", "\\G", "\\A")


@dataclass(slots=True)
class _Known:
    """A customer's last text, the prefix that it shared with the text before, and the tokens of that prefix."""

    text: str
    prefix: str = ""
    tokens: tuple[int, ...] = ()


class CachingTokenizer:
    """A tokenizer that keeps the last shared prefix of each customer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._by_words = _tokenizes_by_words(tokenizer)
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def tokens_of(self, text: str, customer: str | None) -> list[int]:
        """The tokens of a text. Without a customer nothing is kept."""
        if customer is None or not self._by_words:
            return self._ids(text)
        known = self._known.pop(customer, None) or _Known("")
        self._known[customer] = known
        if len(self._known) > _MOST_CUSTOMERS:
            self._known.popitem(last=False)
        before, known.text = known.text, text
        if _begins(text, known.prefix) and not _alike(text, before, len(known.prefix) + _LEAST_CHARS):
            return [*known.tokens, *self._ids(text[len(known.prefix) :])]
        common = common_length(text, before)
        whole = self._whole(text)
        known.prefix, known.tokens = self._prefix(text, whole, common)
        return whole.ids

    def _whole(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _ids(self, text: str) -> list[int]:
        """The tokens of a text without their offsets, which take a third of the time."""
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def _prefix(self, text: str, whole: Encoding, common: int) -> tuple[str, tuple[int, ...]]:
        """The longest common prefix whose tokens are surely the same before any other text, and these tokens."""
        ids, words, offsets = whole.ids, whole.word_ids, whole.offsets
        for place in range(len(ids) - 1, 0, -1):
            start = offsets[place][0]
            if start < _LEAST_CHARS:
                break
            if start > common - _MARGIN_CHARS or words[place] == words[place - 1]:
                continue
            if _between_words(text, start):
                right = ids[place:] == self._ids(text[start:])
                return (text[:start], tuple(ids[:place])) if right else ("", ())
        return "", ()


def _alike(text: str, other: str, chars: int) -> bool:
    """Whether the first `chars` characters of both are equal."""
    return min(len(text), len(other)) >= chars and text[:chars] == other[:chars]


def _begins(text: str, prefix: str) -> bool:
    """Whether the text begins with the prefix, and the last word of the prefix ends there."""
    return text.startswith(prefix) and (not prefix or _between_words(text, len(prefix)))


def _between_words(text: str, at: int) -> bool:
    return text[at - 1].isalnum() and text[at : at + 1] == " " and text[at + 1 : at + 2].isalpha()


def _tokenizes_by_words(tokenizer: Tokenizer) -> bool:
    """Whether a text's tokens are those of its words, each tokenized by itself."""
    if tokenizer.normalizer is not None or tokenizer.pre_tokenizer is None:
        return False
    steps: list[dict[str, Any]] = [json.loads(tokenizer.pre_tokenizer.__getstate__())]
    for step in steps:
        steps += step.get("pretokenizers", ())
    return all(
        step["type"] in _BY_WORDS
        and not step.get("add_prefix_space")
        and not any(sign in str(step.get("pattern", "")) for sign in _LOOKS_BACK)
        for step in steps
    )
