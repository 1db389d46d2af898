"""The prompts that engines are measured on: two shapes of recursive runs, and two of other work."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pydoc_data.topics import topics

# The last `_LAST` tokens of a text are filled word by word, with at most so many tries.
_LAST, _TRIES = 8, 60
_WORDS = " ".join(topics[name] for name in sorted(topics)).split()


@dataclass(frozen=True, slots=True)
class Shape:
    """Lengths in tokens: a prefix `shared` by all prompts, each prompt's `own` (least, most), the longest answer."""

    name: str
    shared: int
    own: tuple[int, int]
    answer: int


SHAPES = (
    Shape("lines", 512, (64, 64), 8),
    Shape("chunks", 300, (500, 500), 16),
    Shape("generation", 0, (64, 64), 128),
    Shape("unrelated", 0, (50, 800), 16),
)


def prompts(shape: Shape, number: int, part: str, count: Callable[[str], int]) -> list[str]:
    """`number` prompts of a shape. Those of another `part` have the same prefix, and no prompt is repeated.

    `count` counts a text's tokens.
    """
    prefix = _text(random.Random(shape.name), "", shape.shared, count)  # noqa: S311 - test data
    rng = random.Random(f"{shape.name} {part}")  # noqa: S311
    return [_text(rng, prefix, shape.shared + rng.randint(*shape.own), count) for _ in range(number)]


def random_words(rng: random.Random, number: int) -> str:
    """So many words of English, in random order."""
    return " ".join(rng.choices(_WORDS, k=number))


def _text(rng: random.Random, prefix: str, tokens: int, count: Callable[[str], int]) -> str:
    """`prefix` followed by random words, `tokens` tokens together; a few fewer if no word fits."""
    words = [prefix] if prefix else []
    while (missing := tokens - count(" ".join(words))) > _LAST:
        words += rng.choices(_WORDS, k=max(1, missing // 4))
    while len(words) > 1 and count(" ".join(words)) > tokens:
        words.pop()
    for _ in range(_TRIES):
        if count(" ".join(words)) == tokens:
            break
        tried = [*words, rng.choice(_WORDS)]
        if count(" ".join(tried)) <= tokens:
            words = tried
    return " ".join(words)
