"""How to ask needle-1: the phrasings of its questions, its prompt, and chunks that surely fit its context.

Training, `pylon models verify` and the demo all build their prompts here, so that the model is asked as it was
trained.
"""

from __future__ import annotations

from collections.abc import Iterator

MODEL_ID = "needle-1"
ANSWER_TOKENS = 12
"""The longest answer, in tokens: numbers that it was trained on have up to eight digits, each a token."""

ABSENT = "none"
"""What the model answers when the chunk does not state the value."""

CHUNK_CHARS = 1500
"""Characters of one chunk; English prose packs into about 450 of the model's tokens, code into 600 and more.

The model is trained and measured up to 640; its context of 2,048 holds 1,500 characters of anything in ASCII.
"""

OVERLAP_CHARS = 150
"""Characters that two neighbouring chunks share, so that a statement cut by one border is whole in the other."""

QUESTIONS: tuple[str, ...] = (
    "What is the special magic number for {key}?",
    "What is the special magic number for {key} mentioned in the text?",
    "What is the magic number for {key}?",
    "Which special magic number is given for {key}?",
    "Find the special magic number for {key}.",
    "Tell me the magic number of {key}.",
    "Look up {key}: what is its special magic number?",
    "Does the text state a special magic number for {key}? Which one?",
)
"""Phrasings the model was trained on; the first is the one to use when there is a choice."""

INSTRUCTION = "Answer from the text, or say none."


def ask(question: str) -> str:
    """The part of a prompt that every chunk of a map shares. It stands in front, so one prefix serves all chunks."""
    return f"{question} {INSTRUCTION}\n\n"


def prompt(question: str, chunk: str) -> str:
    """One user message: the question first, then the chunk to read."""
    return ask(question) + chunk


def chunks(text: str, size: int = CHUNK_CHARS, overlap: int = OVERLAP_CHARS) -> Iterator[str]:
    """Cut `text` into overlapping pieces of at most `size` characters.

    Cuts fall on white space where there is any, so that no number is read half; every statement of at most
    `overlap` / 2 characters stands whole in at least one piece.
    """
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = _back_to_space(text, end, end - overlap // 4)
        yield text[start:end]
        if end == len(text):
            return
        start = _back_to_space(text, end - overlap + overlap // 4, end - overlap)


def _back_to_space(text: str, at: int, floor: int) -> int:
    """The place just after the last white space before `at`, or `at` when there is none past `floor`."""
    for i in range(at, floor, -1):
        if text[i - 1].isspace():
            return i
    return at
