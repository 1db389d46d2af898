"""Strategies that need no root model: programs of ours that run in the same REPL, through the same sub-calls.

They are named as what they are: the trajectory of such a run has one turn, whose model is `program:map-reduce` or
`program:search` and whose reply is the program.
"""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

from pylon.inference.models import needle
from pylon.jobs.size import text_bytes
from pylon.rlm import prompts
from pylon.rlm.loop_state import LoopEnd, Reason
from pylon.rlm.root import Charged, Message, Reply, unpaid
from pylon.rlm.sublm import SubModels

type Strategy = Literal["rlm", "map-reduce", "search"]

READER_TOKENS = 16
# Prose has about four bytes a token; three are safe.
_BYTES_PER_TOKEN = 3
_LEAST_PIECE = 1_000
# A search is after what stands around its hits: more of it is paid for and read in vain.
_MOST_FOUND = 8_000


class ProgramRoot:
    """A root that is no model: its one turn is a program, and it has nothing to add to that."""

    context_tokens = 1_000_000
    max_tokens = 0
    most_msat = 0

    def __init__(self, strategy: Strategy, code: str) -> None:
        self.name = f"program:{strategy}"
        self._code = code

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        loop: str = "",  # noqa: ARG002 - the seam's
        charged: Charged = unpaid,  # noqa: ARG002 - the seam's
    ) -> Reply:
        """See `Root`; a program that has ended without an answer raises `LoopEnd`."""
        if any(message.role == "assistant" for message in messages):
            raise LoopEnd(Reason.PROGRAM_FAILED, prompts.fault(messages[-1].content))
        return Reply(f"```repl\n{self._code}\n```", 0, 0, self.name)

    async def close(self) -> None:
        """See `Root`."""


def is_reader(models: SubModels) -> bool:
    """Whether only needle-1 would answer, which is asked in its own way."""
    return bool(models.models) and set(models.models) == {needle.MODEL_ID}


def program(
    strategy: Literal["map-reduce", "search"],
    question: str,
    models: SubModels,
    *,
    answer_tokens: int,
    prompt_bytes: int | None = None,
) -> str:
    """The code of a strategy for one question and whoever would answer.

    `prompt_bytes` is what carries a prompt at most, in UTF-8; None where nothing bounds it.
    """
    reader = is_reader(models)
    piece, overlap = piece_bytes(question, models, answer_tokens=answer_tokens, prompt_bytes=prompt_bytes)
    if strategy == "search" and not reader:
        piece = min(piece, _MOST_FOUND)
        overlap = piece // 20
    names = {
        "QUESTION": question,
        "PIECE": piece,
        "OVERLAP": overlap,
        "ABSENT": needle.ABSENT,
        "ASKS": [needle.ask(one) for one in phrasings(question)] if reader else [_NOTE.format(question=question)],
        "COMBINE": _COMBINE.format(question=question),
        "CONCLUDE": _CONCLUDE.format(question=question),
    }
    head = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    parts = ("common", "every_piece" if strategy == "map-reduce" else "found_pieces", "reader" if reader else "notes")
    return "\n\n".join([head, *map(_source, parts)])


def phrasings(question: str) -> list[str]:
    """The question, and its other wordings where it is one that needle-1 was trained on."""
    for template in needle.QUESTIONS:
        before, after = map(re.escape, template.split("{key}"))
        match = re.fullmatch(f"{before}(.+?){after}", question.strip())
        if match is not None:
            others = [one.format(key=match[1]) for one in needle.QUESTIONS if one != template]
            return [question.strip(), *others]
    return [question]


def piece_bytes(question: str, models: SubModels, *, answer_tokens: int, prompt_bytes: int | None) -> tuple[int, int]:
    """Length and overlap of the pieces that a strategy cuts, in bytes of UTF-8: what fits the window, and what
    carries a prompt, beside the instructions, the question and the answer."""
    if is_reader(models):
        # Trained on ASCII; letters that take more bytes take more tokens too.
        return needle.CHUNK_CHARS, needle.OVERLAP_CHARS
    window = models.context_tokens or 4_096
    room = (window - answer_tokens) * _BYTES_PER_TOKEN
    if prompt_bytes is not None:
        room = min(room, prompt_bytes)
    head = max(text_bytes(part.format(question=question)) for part in (_NOTE, _COMBINE, _CONCLUDE))
    piece = max(_LEAST_PIECE, room - head)
    return piece, piece // 20


def _source(part: str) -> str:
    return (files("pylon.rlm.programs") / f"{part}.py").read_text(encoding="utf-8")


_NOTE = """\
Question: {question}

Below is one part of a longer text. Write down what in it helps to answer the question, as briefly as you can, with
names and figures exactly as they stand there. If nothing in it helps, write only: none

"""
_COMBINE = """\
Question: {question}

Below are notes on parts of a longer text. Put them together into shorter notes that keep everything that helps to
answer the question, with names and figures exactly as they stand there.

"""
_CONCLUDE = """\
Question: {question}

Below are notes on the parts of a longer text. Answer the question from them, briefly, or say that they
do not answer it.

"""
