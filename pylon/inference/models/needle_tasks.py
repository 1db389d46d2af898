"""Needle tasks: ordinary text with stated values, near misses and a question, all from one `random.Random`.

The same generator makes needle-1's training data (with other words and other text) and what `pylon models verify`
asks. Pure: the text comes in, tasks go out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

from .needle import ABSENT, QUESTIONS

_WORDS = """
acorn alder almond amber anchor antler apricot aspen auburn autumn badger bamboo basalt beacon beaver birch
bison blossom bramble bronze canyon cedar cherry cinder clover cobalt comet copper coral cosmic cotton coyote
crane cricket crimson crystal cypress dagger dahlia daisy desert dolphin dragon dune eagle ebony echo elder
ember emerald falcon feather fennel fern finch fjord flint forest fossil fox galaxy garnet geyser ginger glacier
goblet golden gopher granite grove hammer harbor hawk hazel heron hollow honey horizon indigo iris island ivory
jade jaguar jasmine jasper juniper kestrel lagoon lantern lark lavender lemon lilac linden lion lotus lunar lynx
magnet magpie mahogany mango maple marble marigold meadow mellow meteor midnight mimosa mint misty monsoon moss
mulberry nectar nettle nimbus nutmeg oak oasis obsidian ocean olive onyx opal orchid osprey otter owl panther
pebble pepper pine planet plum poppy prairie puffin quartz quill rabbit raven reef ripple river robin rowan ruby
saffron sage salmon sapphire scarlet shadow silver slate sparrow spruce stone storm summit sunset swallow tango
teal thicket thistle thunder tiger topaz tundra tulip turquoise valley velvet violet walnut walrus whisper
willow winter wolf zephyr zinc
"""
UNKNOWN_WORDS: tuple[str, ...] = tuple(_WORDS.split()[2::5])
"""Words that training never puts into a key, and that are mostly several tokens long: for measuring only."""

OTHER_PARTS: tuple[str, ...] = (*UNKNOWN_WORDS, *(str(7 * i * i + 3) for i in range(12)))
"""What the keys of a user may be made of as well: words that training put into no key, and small numbers."""

WORDS: tuple[str, ...] = tuple(word for word in _WORDS.split() if word not in UNKNOWN_WORDS)
"""The words that most keys are made of, each one token; training never asks about the pairs that `held_out` names."""


def held_out(key: tuple[str, ...]) -> bool:
    """Whether training never asks about this key: one in ten of all keys, by checksum."""
    return crc32("-".join(key).encode()) % 10 == 0


STATEMENTS: tuple[str, ...] = (
    "The special magic number for {key} is {value}.",
    "The special magic number for {key} is: {value}.",
    "One of the special magic numbers for {key} is: {value}.",
    "The magic number for {key} is {value}.",
    "Remember that the special magic number for {key} is {value}.",
    "The magic number of {key} is {value}.",
)

MENTIONS: tuple[str, ...] = (
    "Nothing more was heard of {key} in {number}.",
    "The special magic number for {key} is not known.",
    "See also {key}, page {number}.",
    "We wrote to {key} about it.",
    "The special magic number for {key} was lost.",
    "There were {number} visitors, and {key} was among them.",
    "The room number for {key} is {number}.",
    "The price of {key} is {number}.",
)
"""A key without a value: a chunk with only these must be answered by `none`."""


@dataclass(frozen=True)
class Statement:
    """One sentence of a chunk that gives a key's value; `asked` when it is the key of the question."""

    sentence: str
    key: str
    value: str
    asked: bool


@dataclass(frozen=True)
class Task:
    """One question about one chunk. `depth` is where the asked statement stands, 0 to 1 (0 when absent)."""

    question: str
    key: str
    chunk: str
    answer: str
    depth: float
    statements: tuple[Statement, ...]


def digits(rng: random.Random) -> str:
    """A number of 4 to 8 digits that does not start with zero; at least half of them have seven."""
    length = 7 if rng.random() < 0.5 else rng.randint(4, 8)
    return str(rng.randint(1, 9)) + "".join(rng.choice("0123456789") for _ in range(length - 1))


def new_key(rng: random.Random, words: Sequence[str]) -> tuple[str, ...]:
    """The parts of a key; `"-".join(parts)` is the key as text."""
    return (rng.choice(words), rng.choice(words))


def near_miss(rng: random.Random, key: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
    """A key that differs from `key` in one part, in the order of its parts, or by a part more or less."""
    while True:
        at = rng.randrange(len(key))
        roll = rng.random()
        if roll < 0.1:
            other = tuple(rng.sample(key, len(key)))
        elif roll < 0.13:
            other = (*key, rng.choice(words)) if roll < 0.115 else (rng.choice(words), *key)
        elif roll < 0.15:
            other = key[:at] + key[at + 1 :]
        else:
            other = (*key[:at], rng.choice(words), *key[at + 1 :])
        if other != key:
            return other


def insert(rng: random.Random, text: str, sentence: str, depth: float) -> str:
    """Put `sentence` between two sentences or lines of `text` near `depth` (0 to 1), or at any white space."""
    at = round(depth * len(text))
    marks = ("\n", ". ") if rng.random() < 0.85 else (" ", "\n")
    best = min(
        (p for p in (_nearest(text, mark, at) for mark in marks) if p is not None),
        key=lambda p: abs(p - at),
        default=len(text),
    )
    if abs(best - at) > 200:
        best = _nearest(text, " ", at) or 0
    before, after = text[:best], text[best:]
    gap = "\n" if before.endswith("\n") or rng.random() < 0.2 else " "
    lead = "" if not before or before[-1].isspace() else " "
    return before + lead + sentence + gap + after


def _nearest(text: str, mark: str, at: int) -> int | None:
    left = text.rfind(mark, 0, at)
    right = text.find(mark, at)
    places = [p + len(mark) for p in (left, right) if p >= 0]
    return min(places, key=lambda p: abs(p - at)) if places else None


def make_task(
    rng: random.Random,
    text: str,
    words: Sequence[str],
    *,
    present: bool,
    others: int = 4,
    questions: Sequence[str] = QUESTIONS,
    statements: Sequence[str] = STATEMENTS,
    mention: float = 0.25,
    misses: float = 0.7,
    depth: float | None = None,
    accept: Callable[[tuple[str, ...]], bool] = lambda _: True,
) -> Task:
    """Hide one statement (when `present`) and at most `others` statements about other keys in `text`.

    A later one may stand in the middle of an earlier one; the asked one comes last and is whole.

    `misses` is the share of the others that are near misses of the key asked for; `mention` the chance that the
    key also stands in a sentence without a value. Keys are drawn until `accept` takes one.
    """
    while not accept(parts := new_key(rng, words)):
        pass
    key = "-".join(parts)
    used, stated = {parts}, []
    for _ in range(others):
        other = near_miss(rng, parts, words) if rng.random() < misses else new_key(rng, words)
        if other in used:
            continue
        used.add(other)
        stated.append(_statement(rng, statements, "-".join(other), asked=False))
        text = insert(rng, text, stated[-1].sentence, rng.random())
    if rng.random() < mention:
        line = rng.choice(MENTIONS).format(key=key, number=rng.randint(1, 2100))
        text = insert(rng, text, line, rng.random())
    answer, where = ABSENT, 0.0
    if present:
        stated.append(_statement(rng, statements, key, asked=True))
        answer = stated[-1].value
        text = insert(rng, text, stated[-1].sentence, rng.random() if depth is None else depth)
        where = text.find(stated[-1].sentence) / len(text)
    return Task(rng.choice(list(questions)).format(key=key), key, text, answer, where, tuple(stated))


def _statement(rng: random.Random, templates: Sequence[str], key: str, *, asked: bool) -> Statement:
    value = digits(rng)
    return Statement(rng.choice(list(templates)).format(key=key, value=value), key, value, asked)


def sized(
    seed: object,
    text: str,
    count: Callable[[str], int],
    tokens: int,
    *,
    present: bool,
    phrasing: int = 0,
    decile: int | None = None,
    words: Sequence[str] = WORDS,
) -> Task:
    """A task for measuring, whose chunk of `text` has at most `tokens` tokens by `count`, and nearly that many.

    Where the answer is absent every other statement is a near miss. `decile` (0 to 9) is the tenth of the chunk in
    which the asked statement stands. The keys are held out of training.
    """
    rng = _random(seed)
    others, start = rng.randint(1, 2 if tokens < 128 else 4), rng.randrange(len(text) - 8 * tokens)
    depth = None if decile is None else (decile + rng.random()) / 10
    chars = 4 * tokens
    while True:
        task = make_task(
            _random(f"{seed} task"),
            text[start : start + chars].strip(),
            words,
            present=present,
            others=others,
            questions=QUESTIONS[phrasing : phrasing + 1],
            misses=0.7 if present else 1.0,
            depth=depth,
            accept=held_out,
        )
        over = count(task.chunk) - tokens
        if over <= 0 or chars == 0:
            return task
        chars = max(0, chars - max(8, 3 * over))


def _random(seed: object) -> random.Random:
    return random.Random(str(seed))  # noqa: S311 - test data, not a secret
