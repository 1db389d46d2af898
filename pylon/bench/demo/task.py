"""What the demo asks: a real text with one planted fact. Pure."""

import random
from dataclasses import dataclass
from pydoc_data import topics

from pylon.inference.models import needle

ADJECTIVES = ("amber", "golden", "silver", "cosmic", "hollow", "crimson", "scarlet", "velvet")
NOUNS = ("falcon", "harbor", "lantern", "meadow", "anchor", "comet", "willow", "river")


@dataclass(frozen=True, slots=True)
class Task:
    """A text, the name that a fact in it is about, and that fact."""

    text: str
    key: str
    value: str

    @property
    def question(self) -> str:
        return needle.QUESTIONS[0].format(key=self.key)


def make_task(characters: int, seed: int) -> Task:
    """The language reference that every Python carries, as often as it takes, with the fact somewhere in it."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    source = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    text = (source * (characters // len(source) + 1))[:characters]
    key = f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"
    value = str(rng.randint(1_000_000, 9_999_999))
    at = text.index(" ", rng.randrange(characters // 10, characters - characters // 10))
    return Task(f"{text[:at]} The special magic number for {key} is {value}.{text[at:]}", key, value)


def pieces(characters: int) -> int:
    """About how many pieces such a text is cut into."""
    return 1 + characters // (needle.CHUNK_CHARS - needle.OVERLAP_CHARS)
