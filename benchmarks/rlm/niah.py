"""S-NIAH: one stated number in a haystack (RULER's single needle; constant work whatever the length)."""

from __future__ import annotations

import random
from functools import partial
from pydoc_data.topics import topics
from typing import Literal

from benchmarks.rlm import scorers
from benchmarks.rlm.task import Task
from pylon.inference.models.needle import QUESTIONS
from pylon.inference.models.needle_tasks import WORDS

type Hay = Literal["sentence", "words", "text"]
HAYS: tuple[Hay, ...] = ("sentence", "words", "text")
SENTENCE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
NEEDLE = "The special magic number for {key} is {value}."


def hay(rng: random.Random, kind: Hay, chars: int) -> str:
    """`chars` characters of one repeated sentence, of random words, or of running text (the language reference)."""
    if kind == "sentence":
        return (SENTENCE * (chars // len(SENTENCE) + 1))[:chars]
    if kind == "words":
        return " ".join(rng.choices(WORDS, k=chars // 4))[:chars]
    text = "\n\n".join(topics[name] for name in sorted(topics))
    start = rng.randrange(len(text))
    return (text[start:] + text * (1 + chars // len(text)))[:chars]


def make(rng: random.Random, chars: int, kind: Hay = "text") -> Task:
    """A haystack of about `chars` characters with one needle, whose place is drawn evenly."""
    key = "-".join(rng.sample(WORDS, 2))
    value = str(rng.randint(1_000_000, 9_999_999))
    text = hay(rng, kind, chars)
    at = text.rfind(" ", 0, rng.randrange(len(text)) + 1) + 1
    needle = NEEDLE.format(key=key, value=value)
    context = f"{text[:at]}{needle} {text[at:]}"
    return Task("s-niah", kind, QUESTIONS[0].format(key=key), context, value, partial(scorers.contains, value))
