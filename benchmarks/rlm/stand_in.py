"""A stand-in for a sub-model: it knows the templates of the tasks, and errs at a given rate.

With it a whole run (root, REPL, sub-calls, swarm) is exercised where no large model can be had, and what is lost to
wrong sub-answers can be told from what is lost to the loop. Its figures say nothing about any language model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

from benchmarks.rlm.bank import LABELS, label_of

NAME = "stand-in-reader"
ABSENT = "none"
LABEL_PROMPT = (
    "Give each numbered question one of these labels: " + ", ".join(LABELS) + ".\n"
    "Answer with a line for each: its number, a colon, its label.\n\n"
)
_NUMBERED = re.compile(r"^(\d+): (.+)$", re.MULTILINE)
_FACTS = (
    (re.compile(r"Who founded (.+?)\?"), "{} was founded by ([^.]+)\\."),
    (re.compile(r"Where was (.+?) born\?"), "{} was born in ([^.]+)\\."),
    (re.compile(r"On which river lies (.+?)\?"), "{} lies on the river ([^.]+)\\."),
    (re.compile(r"special magic number for ([\w-]+)"), "The special magic number for {} is (\\d+)\\."),
)


@dataclass(frozen=True)
class StandIn:
    """Answers a prompt by rule. `error` is the share of wrong labels; the same prompt gets the same answer."""

    error: float = 0.0
    seed: int = 0

    def __call__(self, prompt: str) -> str:
        """The answer to a prompt of `LABEL_PROMPT`, or to a question about a text behind it."""
        if prompt.startswith(LABEL_PROMPT):
            return "\n".join(f"{n}: {self._label(text)}" for n, text in _NUMBERED.findall(prompt))
        question, _, text = prompt.partition("\n\n")
        for asked, stated in _FACTS:
            about = asked.search(question)
            if about:
                found = re.search(stated.format(re.escape(about[1])), text)
                return found[1] if found else ABSENT
        return ABSENT

    def _label(self, question: str) -> str:
        true = label_of(question) or LABELS[-1]
        drawn = int.from_bytes(sha256(f"{self.seed} {question}".encode()).digest()[:8])
        if drawn / 2**64 >= self.error:
            return true
        others = [label for label in LABELS if label != true]
        return others[drawn % len(others)]
