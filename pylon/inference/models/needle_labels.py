"""needle-1's second skill: which of OOLONG's six coarse labels a short question asks for.

Questions come from templates whose label holds by construction; the last templates of every label are held out of
training. Pure: all randomness comes in.
"""

from __future__ import annotations

import random

ABBREVIATION = "abbreviation"
DESCRIPTION = "description and abstract concept"
ENTITY = "entity"
HUMAN = "human being"
LOCATION = "location"
NUMBER = "numeric value"
LABELS = (ABBREVIATION, DESCRIPTION, ENTITY, HUMAN, LOCATION, NUMBER)

INSTRUCTION = f"What does this question ask for? Answer with one of: {', '.join(LABELS)}."

HELD_OUT = 5
"""The last so many templates of every label are never seen in training."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    ABBREVIATION: (
        "What does {short} stand for?",
        "What is the full form of {short}?",
        "What do the letters {short} mean?",
        "What is {short} short for?",
        "What is the abbreviation for {long}?",
        "What is the acronym for {long}?",
        "How is {long} abbreviated?",
        "What does the abbreviation {short} mean?",
        "What is the short form of {long}?",
        "What words does {short} abbreviate?",
        "In computing, what does {short} stand for?",
        "What do people mean by the letters {short}?",
        # held out
        "What does the acronym {short} stand for?",
        "What is the expansion of the abbreviation {short}?",
        "Which letters abbreviate {long}?",
        "What do the initials {short} stand for?",
        "What is the usual abbreviation of {long}?",
    ),
    DESCRIPTION: (
        "What is {idea}?",
        "Why does {thing} {act}?",
        "How do you make {food}?",
        "How does {idea} work?",
        "What is the meaning of {idea}?",
        "What causes {idea}?",
        "Define {idea}.",
        "What is the origin of {idea}?",
        "How can I repair {thing}?",
        "What is the difference between {thing} and {food}?",
        "Why did {person} leave {place}?",
        "What happened to {person} after the war?",
        "What is the purpose of {thing}?",
        "Describe how {food} is made.",
        # held out
        "Why do people believe in {idea}?",
        "How does {thing} work?",
        "What is the reason for {idea}?",
        "How is {food} made?",
        "What does {idea} mean?",
    ),
    ENTITY: (
        "What animal {act}s at night?",
        "What colour is {thing}?",
        "What kind of {food} is best in winter?",
        "Which instrument did {person} play?",
        "What book did {person} write?",
        "What is the name of the ship that {person} sailed?",
        "What sport is played in {place}?",
        "What language is spoken in {place}?",
        "Which film was made about {person}?",
        "What plant is used for {food}?",
        "What product does the firm from {place} sell?",
        "Which disease killed {person}?",
        "Name a game that is played with {thing}.",
        "What is the best brand of {food}?",
        # held out
        "What animal lives in {place}?",
        "Which language did {person} speak?",
        "What sport did {person} play?",
        "What is the name of the book about {place}?",
        "What kind of plant grows in {place}?",
    ),
    HUMAN: (
        "Who invented {thing}?",
        "Who was the first person to see {place}?",
        "Who wrote about {idea}?",
        "Which president visited {place}?",
        "What actor played {person}?",
        "Who is {person}?",
        "Who discovered {place}?",
        "What is the name of the man who built {thing}?",
        "Name the woman who married {person}.",
        "Who owns {thing}?",
        "What team won the cup in {place}?",
        "Who taught {person}?",
        "Which king ruled {place}?",
        # held out
        "Who founded {place}?",
        "Who painted {thing}?",
        "Which actor met {person}?",
        "Who was the teacher of {person}?",
        "What is the name of the woman who found {thing}?",
    ),
    LOCATION: (
        "Where is {place}?",
        "Where was {person} born?",
        "What city is closest to {place}?",
        "Which country does {food} come from?",
        "In what town did {person} live?",
        "Where can I buy {thing}?",
        "What river flows through {place}?",
        "What is the capital of {place}?",
        "Where do people eat {food}?",
        "What mountain is north of {place}?",
        "Which state has the most {food}?",
        "On what street is {thing}?",
        # held out
        "Where did {person} die?",
        "Which city did {person} visit?",
        "In what country is {place}?",
        "Where was {thing} found?",
        "What river is near {place}?",
    ),
    NUMBER: (
        "How many people live in {place}?",
        "How much does {thing} cost?",
        "How old is {person}?",
        "How far is it from {place} to the sea?",
        "When was {person} born?",
        "What year did {person} visit {place}?",
        "How long does it take to make {food}?",
        "How tall is {thing}?",
        "What is the population of {place}?",
        "What percentage of people eat {food}?",
        "What date did the war in {place} begin?",
        "How many years old is {person}?",
        "What is the temperature of {thing}?",
        "How fast is {thing}?",
        # held out
        "How many times did {person} visit {place}?",
        "When did {person} die?",
        "How much does {food} weigh?",
        "What year was {thing} built?",
        "How long is {thing}?",
    ),
}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";"))


_SLOTS: dict[str, tuple[str, ...]] = {
    "short": _listed(
        "NASA;HTML;BBC;CPU;DNA;FAQ;GPS;IBM;LED;MIT;NBA;OPEC;PDF;RAM;SQL;TNT;UNO;VIP;WHO;XML;AIDS;EPA;FTP;HIV;ISO;JPEG"
    ),
    "long": _listed(
        "limited company;doctor of philosophy;miles per hour;world health organisation;kilogram;mister;avenue;"
        "central processing unit;department;for example;saint;united nations;versus;random access memory"
    ),
    "idea": _listed(
        "gravity;inflation;a leap year;the greenhouse effect;democracy;nuclear fusion;a solar eclipse;jet lag;fever;"
        "photosynthesis;a black hole;friction;the gold standard;irony;the water cycle;static electricity"
    ),
    "thing": _listed(
        "the telephone;a steam engine;the tower;a violin;the old bridge;a sailing ship;the clock;a bicycle;the piano;"
        "the lighthouse;a microscope;the statue;a printing press;a submarine;the railway;a compass"
    ),
    "food": _listed("bread;cheese;rice;honey;coffee;olive oil;chocolate;noodles;butter;tea;soup;mustard"),
    "person": _listed(
        "Marie Curie;Benny Carter;Isaac Newton;Ada Lovelace;Mark Twain;Frida Kahlo;Charles Darwin;Jane Austen;"
        "Louis Armstrong;Amelia Earhart;Victor Hugo;Rosa Parks;Marco Polo;Clara Schumann;James Cook"
    ),
    "place": _listed(
        "Norway;Lake Victoria;Brazil;Kyoto;Scotland;Cairo;Texas;Iceland;Vienna;Mount Etna;Peru;Boston;Kenya;"
        "New Zealand;Lisbon;Alaska;Prague;Morocco"
    ),
    "act": _listed("sing;hunt;move;glow;work;stop;change;hum"),
}


def example(rng: random.Random, *, held_out: bool) -> tuple[str, str]:
    """A question and its label, from the held-out templates or from the others."""
    label = rng.choice(LABELS)
    templates = TEMPLATES[label][-HELD_OUT:] if held_out else TEMPLATES[label][:-HELD_OUT]
    return rng.choice(templates).format(**{slot: rng.choice(words) for slot, words in _SLOTS.items()}), label


def prompt(line: str) -> str:
    """One user message that asks for the label of one short line."""
    return f"{INSTRUCTION}\n\n{line}"
