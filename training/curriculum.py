"""What needle-1 is shown, and in which order: stages from echoes of keys up to full chunks."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import NamedTuple

import corpus
import torch
from shared import needle, tasks
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info


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


FREE, ECHO_FREE = 0.35, 0.5
"""Shares of dialogues, and of echoes, whose keys are of any words and of numbers, not of the package's list."""

STAGES = (
    Stage((0, 0), 0, 0, 0.0, 0.0, 0.90, echo=True),
    Stage((0, 60), 1, 1, 0.0, 0.2, 0.90),
    Stage((0, 60), 4, 1, 0.5, 0.4, 0.92),
    Stage((0, 500), 6, 8, 0.7, 0.5, 0.80),
    Stage((0, 1600), 6, 8, 0.8, 0.5, 0.85),
    Stage((50, 2400), 6, 8, 0.85, 0.5, 2.0),
    Stage((0, 120), 14, 8, 0.9, 0.5, 2.0),
)
DENSE, DENSE_SHARE = len(STAGES) - 1, 0.7
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


class Batch(NamedTuple):
    """Rows side by side, (batch, time) each, filled up with IGNORE; and the number of the stage they are of."""

    level: int
    ids: Tensor
    answer: Tensor
    near: Tensor
    far: Tensor


class Data(IterableDataset[Batch]):
    """An endless stream of batches of whole dialogues, right-padded, at the stage that `level` names just then."""

    def __init__(self, tokenizer: Tokenizer, seed: str, level: Synchronized[int]) -> None:
        docs = corpus.documents()
        self.filler = corpus.Filler(docs)
        self.words = [word for word in corpus.words(docs) if word not in tasks.UNKNOWN_WORDS]
        self.tokenizer, self.seed, self.level = tokenizer, seed, level
        self.rng = random.Random()
        self.pools: dict[int, list[Batch]] = {}

    def __iter__(self) -> Iterator[Batch]:
        """Batches of the present stage, most of the later ones dense; each worker process has a seed of its own."""
        worker = get_worker_info()
        self.rng.seed(f"{self.seed} {worker.id if worker else 0}")
        while True:
            level = self.level.value
            yield self.batch(DENSE if level > 2 and self.rng.random() < DENSE_SHARE else level)

    def batch(self, level: int) -> Batch:
        """Dialogues of about one length, as many as fit a batch."""
        pool = self.pools.setdefault(level, [])
        if not pool:
            rows = sorted((self.one(STAGES[level]) for _ in range(POOL)), key=lambda row: len(row.ids))
            while rows:
                fits = max(1, BATCH_TOKENS // len(rows[-1].ids))
                pool.append(_batch(level, rows[-fits:]))
                del rows[-fits:]
            self.rng.shuffle(pool)
        return pool.pop()

    def one(self, stage: Stage) -> Row:
        """One dialogue of this stage."""
        rng = self.rng
        if stage.echo:
            return self.echo()
        text = self.filler.slice(rng, rng.randint(*stage.chars)) if stage.chars[1] > 60 else ""
        task = tasks.make_task(
            rng, text, self.parts(FREE), present=rng.random() >= stage.absent, others=rng.randint(0, stage.others),
            misses=stage.misses, questions=needle.QUESTIONS[: stage.phrasings],
            mention=0.35 if stage.phrasings > 1 else 0.0, accept=lambda key: not tasks.held_out(key),
        )  # fmt: skip
        content = DIALOGUE.format(needle.prompt(task.question, task.chunk))
        head = self.tokenizer.encode(content)
        row = _answered(head.ids, self.tokenizer.encode(f"{task.answer}<|im_end|>").ids)
        row.answer[len(head.ids)] = FIRST_NONE if task.answer == needle.ABSENT else FIRST_DIGIT
        for statement in task.statements:
            at = content.find(statement.sentence)
            if at < 0:  # another statement was put into the middle of this one
                continue
            key_end = at + statement.sentence.find(statement.key) + len(statement.key)
            value_end = at + statement.sentence.find(statement.value) + len(statement.value)
            first, last = head.char_to_token(key_end - 1), head.char_to_token(value_end - 1)
            row.near[first : first + 2] = [int(statement.asked)] * 2
            row.far[first : last + 1] = [int(statement.asked)] * (last + 1 - first)
        return row

    def parts(self, free: float) -> Sequence[str]:
        """What a dialogue's keys are made of: in a share `free` of dialogues, of any words, or words and numbers."""
        roll = self.rng.random()
        if roll >= free:
            return tasks.WORDS
        some = self.rng.sample(self.words, 40)
        return some if roll < free / 2 else some[:8] + [str(self.rng.randint(1, 999)) for _ in range(8)]

    def echo(self) -> Row:
        """A list of keys, then the same keys in another order: after a key's first token the rest can be copied.

        Most are longer than any real key: of pairs alone, a run learnt which words were about, and no more.
        """
        rng, words = self.rng, self.parts(ECHO_FREE)
        keys = [rng.choices(words, k=rng.randint(2, 6)) for _ in range(rng.randint(2, 8))]
        row = _answered([1], [])
        for again in (False, True):
            self.rng.shuffle(keys)
            for key in keys:
                part = self.tokenizer.encode(" " + "-".join(key)).ids
                row.ids.extend(part)
                row.answer.extend(int(again and i > 0) for i in range(len(part)))
        return Row(row.ids, row.answer, [IGNORE] * len(row.ids), [IGNORE] * len(row.ids))


def _batch(level: int, rows: list[Row]) -> Batch:
    time = max(len(row.ids) for row in rows)

    def stack(columns: Iterable[list[int]]) -> Tensor:
        return torch.tensor([column + [IGNORE] * (time - len(column)) for column in columns])

    return Batch(
        level,
        stack(row.ids for row in rows),
        stack(row.answer for row in rows),
        stack(row.near for row in rows),
        stack(row.far for row in rows),
    )


def _answered(head: list[int], answer: list[int]) -> Row:
    ids = head + answer
    return Row(ids, [0] * len(head) + [1] * len(answer), [IGNORE] * len(ids), [IGNORE] * len(ids))
