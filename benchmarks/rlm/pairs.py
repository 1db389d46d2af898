"""OOLONG-Pairs: which pairs of users belong together? On the same lines as `oolong.py` (quadratic work).

Three of the paper's twenty tasks (appendix E.1), one of each shape: a condition that both users meet, the same with
a date, and two different roles. Wording is our own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import combinations

from benchmarks.rlm import scorers
from benchmarks.rlm.oolong import Line, context_of, lines
from benchmarks.rlm.task import Task

ASK = (
    "List all pairs of different users (each pair once, the lower number first) such that {condition}."
    " Write one pair a line, as (user, user), and nothing else."
)
DAY = date(2023, 1, 6)


@dataclass(frozen=True)
class Relation:
    """A task: its number in the paper, the condition in words, and whether two users' lines meet it in some order."""

    number: int
    condition: str
    first: Callable[[list[Line]], bool]
    second: Callable[[list[Line]], bool]

    def holds(self, a: list[Line], b: list[Line]) -> bool:
        """Whether one of the two can be the first and the other the second."""
        return (self.first(a) and self.second(b)) or (self.first(b) and self.second(a))


def _has(mine: list[Line], *labels: str) -> bool:
    return any(line.label in labels for line in mine)


def _count(mine: list[Line], label: str) -> int:
    return sum(line.label == label for line in mine)


def _number_or_place(mine: list[Line]) -> bool:
    return _has(mine, "numeric value", "location")


def _person_or_place_late(mine: list[Line]) -> bool:
    people = [line for line in mine if line.label == "human being"]
    return _has(mine, "human being", "location") and all(line.day > DAY for line in people)


RELATIONS = (
    Relation(
        1,
        "each of the two has at least one line whose label is 'numeric value' or 'location'",
        _number_or_place,
        _number_or_place,
    ),
    Relation(
        4,
        "each of the two has at least one line whose label is 'human being' or 'location', and all lines of either"
        " with the label 'human being' are dated after Jan 6, 2023",
        _person_or_place_late,
        _person_or_place_late,
    ),
    Relation(
        11,
        "one of the two has at least one line with the label 'entity' and one with 'abbreviation', and the other has"
        " exactly one line with the label 'entity'",
        lambda mine: _has(mine, "entity") and _has(mine, "abbreviation"),
        lambda mine: _count(mine, "entity") == 1,
    ),
)


def gold_pairs(relation: Relation, made: list[Line]) -> set[tuple[int, int]]:
    """The pairs that meet a relation, the lower user first."""
    users: dict[int, list[Line]] = {}
    for line in made:
        users.setdefault(line.user, []).append(line)
    return {(a, b) for a, b in combinations(sorted(users), 2) if relation.holds(users[a], users[b])}


def make(rng: random.Random, chars: int, lines_a_user: int = 4) -> list[Task]:
    """One context and its three questions; users are many, so that pairs matter."""
    made = lines(rng, chars, users=max(3, chars // 80 // lines_a_user))
    context = context_of(made)
    tasks = []
    for relation in RELATIONS:
        found = gold_pairs(relation, made)
        gold = "\n".join(f"({a}, {b})" for a, b in sorted(found))
        question = ASK.format(condition=relation.condition)
        score = partial(scorers.f1, found)
        tasks.append(Task("oolong-pairs", f"task {relation.number}", question, context, gold, score))
    return tasks
