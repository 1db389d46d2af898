"""What needle-1 is shown, and in which order: stages from a bare sentence up to full chunks."""

from __future__ import annotations

import random
from dataclasses import astuple, dataclass

import corpus
import torch
from shared import labels, needle, tasks
from tokenizers import Tokenizer
from torch import Tensor


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum; it is left when the averaged share of exact answers passes `leave`.

    `chars` is the range of a chunk's length, `phrasings` how many question phrasings are used, `misses` the share of
    near misses among at most `others` other statements, `absent` the share of questions without an answer, `unknown`
    the share of keys of any words at all, `tokens` the size of a batch.
    """

    chars: tuple[int, int]
    others: int
    kinds: tuple[str, ...]
    phrasings: int
    misses: float
    absent: float
    unknown: float
    leave: float
    tokens: int


PAIR = ("pair",)
STAGES = (
    Stage((0, 60), 1, PAIR, 1, 0.0, 0.2, 0.0, 0.90, 2048),
    Stage((0, 200), 2, PAIR, 1, 0.3, 0.3, 0.0, 0.80, 1024),
    Stage((0, 900), 4, tasks.KEY_KINDS, 4, 0.6, 0.4, 0.1, 0.88, 2048),
    Stage((50, 2300), 6, tasks.KEY_KINDS, 8, 0.75, 0.45, 0.2, 2.0, 2048),
)
IGNORE = -1
LABEL_SHARE = 0.1
REACH = 7
"""Tokens behind the end of a key that the convolution after the match can tell about it."""

LOOK_AWAY = 8
"""Tokens of a chunk, taken anywhere, that are taught to match nothing."""

DIALOGUE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Row:
    """A dialogue's tokens, which of them are to be answered, and three marks for each of them.

    `look` is where matching attention should look from there: from the end of the asked key to where the question
    names it, from the end of another key and from some other tokens to the first token. `belongs` is 1 from the
    end of the asked key towards the end of its value, and 0 there for other keys. `copy` is, for each token that
    precedes a digit of the answer, where that digit stands in the chunk, or the first token for `none`. All else is
    IGNORE.
    """

    ids: list[int]
    answer: list[bool]
    look: list[int]
    belongs: list[int]
    copy: list[int]


@dataclass(frozen=True)
class Batch:
    """Rows side by side, (batch, time) each, filled up with IGNORE."""

    ids: Tensor
    answer: Tensor
    look: Tensor
    belongs: Tensor
    copy: Tensor


class Data:
    """Batches of whole dialogues, right-padded, from one seed."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        docs = corpus.documents()
        self.filler = corpus.Filler(docs)
        self.known, self.any = corpus.known_words(docs), corpus.words_by_use(docs)
        self.tokenizer = tokenizer
        self.rng = random.Random(seed)

    def one(self, stage: Stage) -> Row:
        """One dialogue of this stage."""
        rng = self.rng
        if stage.phrasings > 1 and rng.random() < LABEL_SHARE:
            return self.label()
        text = self.filler.slice(rng, rng.randint(*stage.chars)) if stage.chars[1] > 60 else ""
        task = tasks.make_task(
            rng, text, self.any if rng.random() < stage.unknown else self.known,
            present=rng.random() >= stage.absent, others=rng.randint(0, stage.others),
            kinds=stage.kinds, questions=needle.QUESTIONS[: stage.phrasings], misses=stage.misses,
            mention=0.25 if stage.phrasings > 1 else 0.0,
            accept=lambda key: not tasks.held_out(key),
        )  # fmt: skip
        content = DIALOGUE.format(needle.prompt(task.question, task.chunk))
        head = self.tokenizer.encode(content)
        ids = head.ids + self.tokenizer.encode(f"{task.answer}<|im_end|>").ids
        look, belongs, copy = ([IGNORE] * len(ids) for _ in range(3))
        start = len(head.ids)
        copy[start - 1] = 0
        named = head.char_to_token(content.find(task.key) + len(task.key) - 1)
        for at in rng.sample(range(named + 1, len(head.ids)), LOOK_AWAY):
            look[at] = 0
        for statement in task.statements:
            at = content.find(statement.sentence)
            key_end = at + statement.sentence.find(statement.key) + len(statement.key)
            value_end = at + statement.sentence.find(statement.value) + len(statement.value)
            first, last = head.char_to_token(key_end - 1), head.char_to_token(value_end - 1)
            look[first] = named if statement.asked else 0
            reach = min(last + 1, first + REACH)
            belongs[first:reach] = [int(statement.asked)] * (reach - first)
            if statement.asked:
                digits = len(statement.value)
                copy[start - 1 : start - 1 + digits] = range(last + 1 - digits, last + 1)
        return Row(ids, [i >= start for i in range(len(ids))], look, belongs, copy)

    def label(self) -> Row:
        """A short question and the label of what it asks for."""
        line, label = labels.example(self.rng, held_out=False)
        head = self.tokenizer.encode(DIALOGUE.format(labels.prompt(line))).ids
        ids = head + self.tokenizer.encode(f"{label}<|im_end|>").ids
        nothing = [IGNORE] * len(ids)
        return Row(ids, [i >= len(head) for i in range(len(ids))], nothing, nothing, nothing)

    def batch(self, stage: Stage) -> Batch:
        """As many dialogues as fit the stage's batch size in tokens, padding included."""
        rows, longest = [], 0
        while True:
            row = self.one(stage)
            longest_now = max(longest, len(row.ids))
            if rows and longest_now * (len(rows) + 1) > stage.tokens:
                break
            rows.append(row)
            longest = longest_now
        return Batch(*(_stack(column) for column in zip(*(astuple(row) for row in rows), strict=True)))


def _stack(rows: tuple[list[int], ...]) -> Tensor:
    out = torch.full((len(rows), max(map(len, rows))), IGNORE)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out
