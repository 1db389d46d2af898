"""A benchmark's question: a long context, what is asked about it, and the answer that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    """One question.

    `kind` is the benchmark, `name` the question's family in it, `context` the text that a root model gets as a
    variable, `gold` the answer as text. `score` maps an answer to 0 … 1 (`scorers.py`).
    """

    kind: str
    name: str
    question: str
    context: str
    gold: str
    score: Callable[[str], float] = field(repr=False, compare=False)
