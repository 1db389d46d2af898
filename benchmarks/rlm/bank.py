"""A bank of short questions whose label holds by construction: six coarse labels, each with templates of its own.

The labels are those of OOLONG's trec_coarse. A template belongs to one label, so a question's label is known to
whoever wrote it down and to `label_of`, and to a reader only by understanding it.
"""

from __future__ import annotations

import random
import re
from functools import cache

LABELS = ("numeric value", "entity", "location", "human being", "abbreviation", "description and abstract concept")

_PEOPLE = ("Mara Ellison", "Tobias Kern", "Ines Okafor", "Henrik Vaal", "Lucia Brandt", "Samir Haddad", "Wren Doyle")
_PLACES = ("Norwick", "the Ardal valley", "Port Selby", "Kesterfield", "the Irian islands", "Old Maran", "Vessau")
_THINGS = ("a barometer", "a loom", "a printing press", "a sextant", "a steam hammer", "a water clock", "a zipper")
_PLURALS = ("bridges", "lighthouses", "glaciers", "theatres", "vineyards", "windmills", "orchards", "harbours")
_WORKS = ("The Salt Road", "Nine Lanterns", "A Winter Ledger", "The Glass Orchard", "Quiet Engines", "Tidewater")
_WORDS = ("serendipity", "entropy", "irony", "inertia", "nostalgia", "symmetry", "prudence", "osmosis")
_LETTERS = ("NASA", "UNESCO", "RADAR", "ASCII", "LASER", "SCUBA", "OPEC", "CERN", "NATO", "SONAR")

_FILL = {"person": _PEOPLE, "place": _PLACES, "thing": _THINGS, "many": _PLURALS, "work": _WORKS, "word": _WORDS}

TEMPLATES: dict[str, tuple[str, ...]] = {
    "numeric value": (
        "How many {many} are there in {place}?",
        "How old was {person} when {work} came out?",
        "In what year did {person} leave {place}?",
        "How far is it from {place} to the coast?",
        "What percentage of {many} stand in {place}?",
    ),
    "entity": (
        "What animal is on the flag of {place}?",
        "What instrument did {person} play in {work}?",
        "What colour are the {many} of {place}?",
        "What sport is {person} known for?",
        "What language is spoken in {place}?",
    ),
    "location": (
        "Where was {person} born?",
        "Which city has the most {many}?",
        "What country is {place} part of?",
        "Where was {thing} first used?",
        "On which river does {place} lie?",
    ),
    "human being": (
        "Who wrote {work}?",
        "Who invented {thing}?",
        "Which painter lived in {place}?",
        "What is the name of the actor in {work}?",
        "Who was the first mayor of {place}?",
    ),
    "abbreviation": (
        "What does {letters} stand for?",
        "What is {letters} short for?",
        "What is the full form of {letters}?",
        "How is the Guild of {many} in {place} abbreviated?",
    ),
    "description and abstract concept": (
        "What is {word}?",
        "Why did {person} leave {place}?",
        "How does {thing} work?",
        "What is the origin of the name {place}?",
        "What are {many} used for?",
    ),
}


def new_question(rng: random.Random, label: str) -> str:
    """A new question with this label."""
    filled = {name: rng.choice(values) for name, values in _FILL.items()}
    return rng.choice(TEMPLATES[label]).format(**filled, letters=rng.choice(_LETTERS))


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    values = {name: "(?:" + "|".join(map(re.escape, options)) + ")" for name, options in _FILL.items()}
    values["letters"] = "(?:" + "|".join(_LETTERS) + ")"
    return tuple(
        (label, re.compile(re.sub(r"\\\{(\w+)\\\}", lambda found: values[found[1]], re.escape(template))))
        for label, templates in TEMPLATES.items()
        for template in templates
    )


def label_of(question: str) -> str | None:
    """The label of a question of this bank, by the template that it came from; None for any other text."""
    return next((label for label, pattern in _patterns() if pattern.fullmatch(question.strip())), None)
