"""A real text with one fact planted in it, and the question about that fact (needle in a haystack)."""

import random
from dataclasses import dataclass
from pydoc_data import topics

from pylon.inference.models import needle

ADJECTIVES = ("amber", "golden", "silver", "cosmic", "hollow", "crimson", "scarlet", "velvet")
NOUNS = ("falcon", "harbor", "lantern", "meadow", "anchor", "comet", "willow", "river")


@dataclass(frozen=True, slots=True)
class Task:
    """`text`, in which one sentence gives the number `value` to the name `key`."""

    text: str
    key: str
    value: str

    @property
    def question(self) -> str:
        return needle.QUESTIONS[0].format(key=self.key)


def make_task(characters: int, seed: int) -> Task:
    """The task of this `seed`. The text is Python's own language reference, repeated to `characters`; the fact is
    added to it, anywhere but in the first and the last tenth."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    source = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    text = (source * (characters // len(source) + 1))[:characters]
    key = f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"
    value = str(rng.randint(1_000_000, 9_999_999))
    at = text.index(" ", rng.randrange(characters // 10, characters - characters // 10))
    return Task(f"{text[:at]} The special magic number for {key} is {value}.{text[at:]}", key, value)
