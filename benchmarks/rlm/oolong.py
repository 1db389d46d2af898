"""OOLONG-like counting: lines whose labels are not given, and questions about all lines (linear work).

Modelled on OOLONG's trec_coarse split as the RLM paper uses it (section 3.1); lines, users, dates and questions are
our own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from benchmarks.rlm import scorers
from benchmarks.rlm.bank import LABELS, new_question
from benchmarks.rlm.task import Task

FIRST_DAY, DAYS = date(2022, 9, 1), 330
HEAD = (
    "The lines below are questions that people asked. Each belongs to exactly one of six labels: "
    + ", ".join(f"'{label}'" for label in LABELS)
    + ". The labels are not written down.\n\n"
)


@dataclass(frozen=True)
class Line:
    """One line of the context: a question that a user asked. Its `label` is not written there."""

    day: date
    user: int
    question: str
    label: str

    def __str__(self) -> str:
        day = f"{self.day:%b} {self.day.day}, {self.day.year}"
        return f"Date: {day} || User: {self.user} || Instance: {self.question}"


def lines(rng: random.Random, chars: int, users: int) -> list[Line]:
    """Lines of about `chars` characters in all, by so many users; some labels are more common than others."""
    weights = [rng.uniform(0.5, 2.0) for _ in LABELS]
    names = rng.sample(range(10_000, 99_999), users)
    made: list[Line] = []
    while chars > 0:
        label = rng.choices(LABELS, weights)[0]
        day = FIRST_DAY + timedelta(days=rng.randrange(DAYS))
        made.append(Line(day, rng.choice(names), new_question(rng, label), label))
        chars -= len(str(made[-1])) + 1
    return made


def context_of(made: Sequence[Line]) -> str:
    """The line as the model reads it."""
    return HEAD + "\n".join(map(str, made))


type Asked = tuple[str, str, str, Callable[[str], float]]
"""Name of the family, question, gold answer, scorer."""


def _unique(counts: Counter[str], *, most: bool) -> str | None:
    ranked = sorted(counts.items(), key=lambda item: item[1], reverse=most)
    return ranked[0][0] if len(ranked) == 1 or ranked[0][1] != ranked[1][1] else None


def _counting(rng: random.Random, made: Sequence[Line]) -> Iterator[Asked]:
    counts = Counter(line.label for line in made)
    for word, most in (("most", True), ("least", False)):
        label = _unique(counts, most=most)
        if label is not None:
            question = f"Which of the labels is the {word} common? Give the label alone."
            yield f"{word} common", question, label, partial(scorers.exact, label)
    label = rng.choice(LABELS)
    question = f"How many lines have the label '{label}'? Give the number alone."
    yield "count", question, str(counts[label]), partial(scorers.numeric, counts[label])
    a, b = rng.sample(LABELS, 2)
    said = "more common than" if counts[a] > counts[b] else "less common than"
    said = "of the same frequency as" if counts[a] == counts[b] else said
    question = (
        f"Is the label '{a}' 'more common than', 'less common than', or 'of the same frequency as' the label '{b}'?"
        " Give one of the three phrases alone."
    )
    yield "comparison", question, said, partial(scorers.exact, said)


def _by_user(rng: random.Random, made: Sequence[Line]) -> Iterator[Asked]:
    label = rng.choice(LABELS)
    user = _unique(Counter(str(line.user) for line in made if line.label == label), most=True)
    if user is not None:
        question = f"Which user has the most lines with the label '{label}'? Give the user's number alone."
        yield "user with most", question, user, partial(scorers.exact, user)
    someone = rng.choice(made).user
    count = sum(line.user == someone and line.label == label for line in made)
    question = f"How many lines of user {someone} have the label '{label}'? Give the number alone."
    yield "count of a user", question, str(count), partial(scorers.numeric, count)


def _timeline(rng: random.Random, made: Sequence[Line]) -> Iterator[Asked]:
    label, day = rng.choice(LABELS), FIRST_DAY + timedelta(days=rng.randrange(DAYS // 4, 3 * DAYS // 4))
    for word, holds in (("before", lambda line: line.day < day), ("after", lambda line: line.day > day)):
        count = sum(line.label == label and holds(line) for line in made)
        asked = f"{day:%b} {day.day}, {day.year}"
        question = f"How many lines dated {word} {asked} have the label '{label}'? Give the number alone."
        yield f"count {word} a date", question, str(count), partial(scorers.numeric, count)
    month = _unique(Counter(f"{line.day:%B %Y}" for line in made if line.label == label), most=True)
    if month is not None:
        question = f"In which month are there the most lines with the label '{label}'? Answer like 'March 2023'."
        yield "month with most", question, month, partial(scorers.exact, month)


def make(rng: random.Random, chars: int, users: int = 12) -> list[Task]:
    """One context and a question of every family whose answer is unique."""
    made = lines(rng, chars, users)
    context = context_of(made)
    asked = [*_counting(rng, made), *_by_user(rng, made), *_timeline(rng, made)]
    return [Task("oolong", name, question, context, gold, score) for name, question, gold, score in asked]
