"""Multi-hop: fictional documents, a chain of two facts to follow from the first, and documents that nearly fit.

Stands where the paper has BrowseComp-Plus, whose hundred thousand documents cannot be made offline.
"""

from __future__ import annotations

import random
from functools import partial

from benchmarks.rlm import scorers
from benchmarks.rlm.task import Task

_ONSETS = ("Br", "Cal", "Dor", "El", "Fen", "Gal", "Hes", "Ir", "Jor", "Kel", "Lan", "Mor", "Nar", "Os", "Pel")
_MIDDLES = ("a", "e", "i", "o", "u", "ae", "an", "er", "il", "on")
_ENDS = ("dric", "field", "gate", "holm", "mark", "nor", "ster", "swick", "tha", "vane", "well", "wyn")
_TRADES = ("Foundry", "Mill", "Press", "Shipyard", "Brewery", "Observatory", "Glassworks", "Ropery")
_DUTIES = ("director", "chief clerk", "night watch", "treasurer")
_PADDING = (
    "The winters there are long and the ledgers are kept with care.",
    "Visitors arrive by the morning coach and leave before dusk.",
    "Of its early years little is written down.",
    "Every spring the gates are painted anew.",
    "The archive burned once and was copied from memory.",
    "Its bell can be heard across the marsh on quiet days.",
)


class _Names:
    """Names that do not repeat."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._used: set[str] = set()

    def new(self) -> str:
        while True:
            name = "".join(self._rng.choice(part) for part in (_ONSETS, _MIDDLES, _ENDS))
            if name not in self._used:
                self._used.add(name)
                return name


def _document(rng: random.Random, title: str, facts: list[str]) -> str:
    sentences = [*facts, *rng.sample(_PADDING, rng.randint(3, len(_PADDING)))]
    rng.shuffle(sentences)
    return f"# {title}\n{' '.join(sentences)}\n"


def make(rng: random.Random, chars: int) -> Task:
    """Documents of about `chars` characters; one house's founder's birthplace's river is asked for."""
    names = _Names(rng)
    documents: list[str] = []
    asked: list[tuple[str, str]] = []
    while sum(map(len, documents)) < chars:
        house = f"{names.new()} {rng.choice(_TRADES)}"
        founder, other = f"{names.new()} {names.new()}", f"{names.new()} {names.new()}"
        town, elsewhere, river = names.new(), names.new(), names.new()
        duty = rng.choice(_DUTIES)
        documents += [
            _document(rng, house, [f"{house} was founded by {founder}.", f"Its {duty} is {other}."]),
            _document(rng, founder, [f"{founder} was born in {town}.", f"{founder} died in {elsewhere}."]),
            _document(rng, other, [f"{other} was born in {elsewhere}."]),
            _document(rng, town, [f"{town} lies on the river {river}."]),
            _document(rng, elsewhere, [f"{elsewhere} lies on the river {names.new()}."]),
        ]
        asked.append((house, river))
    house, river = rng.choice(asked)
    rng.shuffle(documents)
    question = f"On which river lies the town where the founder of {house} was born? Give the river's name alone."
    return Task("multi-hop", "2 hops", question, "\n".join(documents), river, partial(scorers.exact, river))
