"""What needle-1 is shown, and in which order: stages from echoes of keys up to full chunks."""

from __future__ import annotations

import random
from dataclasses import astuple, dataclass

import corpus
import torch
from shared import needle, tasks
from tokenizers import Tokenizer
from torch import Tensor


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum; it is left when the averaged share of exact answers passes `leave`.

    `chars` is the range of a chunk's length, `phrasings` how many question phrasings are used, `misses` the share of
    near misses among at most `others` other statements, `absent` the share of questions without an answer. A stage
    with `echo` has no questions at all.
    """

    chars: tuple[int, int]
    others: int
    phrasings: int
    misses: float
    absent: float
    leave: float
    echo: bool = False


STAGES = (
    Stage((0, 0), 0, 0, 0.0, 0.0, 0.90, echo=True),
    Stage((0, 60), 1, 1, 0.0, 0.2, 0.90),
    Stage((0, 60), 4, 1, 0.5, 0.4, 0.92),
    Stage((0, 500), 6, 8, 0.7, 0.5, 0.80),
    Stage((0, 1600), 6, 8, 0.8, 0.5, 0.85),
    Stage((50, 2400), 6, 8, 0.85, 0.5, 2.0),
)
DENSE, DENSE_SHARE, LAST_DENSE = Stage((0, 120), 14, 8, 0.9, 0.5, 2.0), 0.6, 0.75
"""Near misses with hardly any text around them: most later steps, where a token teaches most about matching."""

BATCH_TOKENS, POOL = 4096, 256
"""Tokens of a batch, padding included; dialogues made at once, so that those of a length can share a batch."""

FIRST_DIGIT, FIRST_NONE, LAST_NONE = 4, 8, 24
"""Weights of an answer's first token, which alone decides which statement is meant, or none; `none` at the very end.

A wrong number costs a map more than a missed one: most chunks of a long text state nothing, and all are asked.
"""
IGNORE = -1
DIALOGUE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Row:
    """A dialogue's tokens, what each weighs as an answer (0: is none), and whether it belongs to the asked key.

    `near` marks the end of a key and the token after it, `far` everything from there to the end of the value, by 1
    for the asked key and 0 for another; all else is IGNORE.
    """

    ids: list[int]
    answer: list[int]
    near: list[int]
    far: list[int]


@dataclass(frozen=True)
class Batch:
    """Rows side by side, (batch, time) each, filled up with IGNORE."""

    ids: Tensor
    answer: Tensor
    near: Tensor
    far: Tensor


class Data:
    """Batches of whole dialogues, right-padded, from one seed."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.filler = corpus.Filler(corpus.documents())
        self.tokenizer = tokenizer
        self.rng = random.Random(seed)
        self.first_none = FIRST_NONE
        self.pools: dict[Stage, list[Batch]] = {}

    def one(self, stage: Stage) -> Row:
        """One dialogue of this stage."""
        rng = self.rng
        if stage.echo:
            return self.echo()
        text = self.filler.slice(rng, rng.randint(*stage.chars)) if stage.chars[1] > 60 else ""
        task = tasks.make_task(
            rng, text, tasks.WORDS, present=rng.random() >= stage.absent, others=rng.randint(0, stage.others),
            questions=needle.QUESTIONS[: stage.phrasings], misses=stage.misses,
            mention=0.35 if stage.phrasings > 1 else 0.0, accept=lambda key: not tasks.held_out(key),
        )  # fmt: skip
        content = DIALOGUE.format(needle.prompt(task.question, task.chunk))
        head = self.tokenizer.encode(content)
        row = _answered(head.ids, self.tokenizer.encode(f"{task.answer}<|im_end|>").ids)
        row.answer[len(head.ids)] = self.first_none if task.answer == needle.ABSENT else FIRST_DIGIT
        for statement in task.statements:
            at = content.find(statement.sentence)
            key_end = at + statement.sentence.find(statement.key) + len(statement.key)
            value_end = at + statement.sentence.find(statement.value) + len(statement.value)
            first, last = head.char_to_token(key_end - 1), head.char_to_token(value_end - 1)
            row.near[first : first + 2] = [int(statement.asked)] * 2
            row.far[first : last + 1] = [int(statement.asked)] * (last + 1 - first)
        return row

    def echo(self) -> Row:
        """A list of keys, then the same keys in another order: after a key's first token the rest can be copied.

        Most are longer than any real key: of pairs alone, a run learnt which words were about, and no more.
        """
        rng = self.rng
        keys = [rng.choices(tasks.WORDS, k=rng.randint(2, 6)) for _ in range(rng.randint(2, 8))]
        row = _answered([1], [])
        for again in (False, True):
            self.rng.shuffle(keys)
            for key in keys:
                part = self.tokenizer.encode(" " + "-".join(key)).ids
                row.ids.extend(part)
                row.answer.extend(int(again and i > 0) for i in range(len(part)))
        return Row(row.ids, row.answer, [IGNORE] * len(row.ids), [IGNORE] * len(row.ids))

    def batch(self, stage: Stage) -> Batch:
        """Dialogues of about one length, as many as fit a batch."""
        pool = self.pools.setdefault(stage, [])
        if not pool:
            rows = sorted((self.one(stage) for _ in range(POOL)), key=lambda row: len(row.ids))
            while rows:
                fits = max(1, BATCH_TOKENS // len(rows[-1].ids))
                pool.append(_batch(rows[-fits:]))
                del rows[-fits:]
            self.rng.shuffle(pool)
        return pool.pop()


def _batch(rows: list[Row]) -> Batch:
    return Batch(*(_stack(column) for column in zip(*(astuple(row) for row in rows), strict=True)))


def _answered(head: list[int], answer: list[int]) -> Row:
    ids = head + answer
    return Row(ids, [0] * len(head) + [1] * len(answer), [IGNORE] * len(ids), [IGNORE] * len(ids))


def _stack(rows: tuple[list[int], ...]) -> Tensor:
    out = torch.full((len(rows), max(map(len, rows))), IGNORE)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out
