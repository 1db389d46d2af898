"""Strategies without a root model: fixed programs that run in the same REPL and make the same sub-calls.

The trajectory of such a run has one turn, whose model is `program:map-reduce` or `program:search` and whose reply is
the program.
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

Strategy = Literal["rlm", "map-reduce", "search"]

READER_TOKENS = 16
# Prose has about four bytes for a token; three are safe.
_BYTES_PER_TOKEN = 3
_LEAST_PIECE = 1_000
# The most bytes of a search's pieces: only the text around a hit is of use, and more would be paid for in vain.
_MOST_FOUND = 8_000


class ProgramRoot:
    """A program in a root's place: its only turn is the program."""

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
        """See `Root`. Raises `LoopEnd` if the program has run and gave no answer."""
        if any(message.role == "assistant" for message in messages):
            raise LoopEnd(Reason.PROGRAM_FAILED, prompts.fault(messages[-1].content))
        return Reply(f"```repl\n{self._code}\n```", 0, 0, self.name)

    async def close(self) -> None:
        """See `Root`."""


def is_reader(models: SubModels) -> bool:
    """Whether only needle-1 would answer, which takes questions in a form of its own."""
    return bool(models.models) and set(models.models) == {needle.MODEL_ID}


def program(
    strategy: Literal["map-reduce", "search"],
    question: str,
    models: SubModels,
    *,
    answer_tokens: int,
    prompt_bytes: int | None = None,
) -> str:
    """The program of a strategy, for one question and the models that would answer.

    `prompt_bytes` is the longest prompt that can be sent, in bytes of UTF-8; None if nothing bounds it.
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
    """The question, followed by its other wordings if it is one that needle-1 was trained on."""
    for template in needle.QUESTIONS:
        before, after = map(re.escape, template.split("{key}"))
        match = re.fullmatch(f"{before}(.+?){after}", question.strip())
        if match is not None:
            others = [one.format(key=match[1]) for one in needle.QUESTIONS if one != template]
            return [question.strip(), *others]
    return [question]


def piece_bytes(question: str, models: SubModels, *, answer_tokens: int, prompt_bytes: int | None) -> tuple[int, int]:
    """The length and the overlap of the pieces that a strategy cuts, in bytes of UTF-8: so that a piece fits the
    window and a prompt together with the instructions, the question and the answer."""
    if is_reader(models):
        # needle-1 was trained on ASCII; letters of more bytes take more tokens too, so its characters count as bytes.
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
