"""Whether an answer is believable, and whether two answers agree, as far as the values alone tell.

An answer with a `Fault` cannot be honest: it is not delivered, and its job goes to another provider. One with a
`Doubt` can be (a prompt may well ask for an echo): it is checked before it is delivered, if there is a way to.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.result import Finish
from pylon.jobs.size import question_bytes
from pylon.money.accounts.usage import TEMPLATE_TOKENS
from pylon.swarm.checks.following import validator_of
from pylon.swarm.job import Answer, JobSpec

# No machine writes one answer as quickly: a provider that says so had it before, or counts tokens it did not make.
MOST_TOKENS_PER_S = 50_000
_SPEED_FROM_TOKENS = 64
_CLOCK_SLACK_MS = 1_000
# A token has at least one byte, except the few that only begin or end something.
_SPARE_TOKENS = 16
# No common vocabulary has longer tokens: most often the longest is a run of 128 blanks.
_MOST_BYTES_PER_TOKEN = 256
# The most values of a JSON answer, for a token and in all: a schema takes some 15 µs a value, in which nothing else
# runs, and an event of 64 KiB may unfold to two million.
_VALUES_PER_TOKEN, MOST_VALUES = 4, 10_000
# Prose has about four bytes a token. With fewer than this, a text that says it is finished has been shortened.
_THIN_BYTES_PER_TOKEN = 1.2
_ECHO = 0.9
_REPEATS = 12
_LOOP_CHARS = 400
# Batches of different shapes round differently, so greedy answers of one model may diverge, but only after a while.
_COMMON_CHARS = 24
_COMMON_SHARE = 0.3
# Whole numbers that a float holds exactly.
_EXACT = 2**53


class Fault(StrEnum):
    """Something that no honest answer has."""

    CUT_OFF = "cut_off"
    FORMAT = "wrong_format"
    MODEL = "other_model"
    LENGTH = "too_long"
    USAGE = "impossible_usage"
    SPEED = "impossible_speed"


class Doubt(StrEnum):
    """Something that an honest answer seldom has."""

    EMPTY = "empty"
    ECHO = "echo"
    REPETITION = "repetition"
    CUT = "cut_short"
    TIMING = "impossible_timing"


class Verdict(StrEnum):
    """What a check says of an answer."""

    PASSED = "passed"
    FAILED = "failed"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Score:
    """How a model ranks an answer: the rank of each token (0: its first choice), and of ending after the last."""

    ranks: tuple[int, ...]
    end_rank: int


def fault_of(asked: JobSpec, given: Answer, offered: Iterable[OfferedModel] = ()) -> Fault | None:
    """The first fault of an answer, or None. `offered` are the models that its provider says it runs; a plain
    provider names no models, neither there nor in its answers.
    """
    if is_cut_off(given):
        return Fault.CUT_OFF
    if _is_of_another_model(asked, given, offered):
        return Fault.MODEL
    size = len(given.text.encode())
    if asked.max_tokens is not None and size > asked.max_tokens * _MOST_BYTES_PER_TOKEN:
        return Fault.LENGTH
    if given.usage is not None:
        written = given.usage.completion_tokens
        if asked.max_tokens is not None and written > asked.max_tokens:
            return Fault.LENGTH
        if not asked.stop and given.finish is not Finish.SIZE and written > size + _SPARE_TOKENS:
            return Fault.USAGE
        if given.usage.prompt_tokens > question_bytes(asked.text, asked.system) + TEMPLATE_TOKENS:
            return Fault.USAGE
        if written >= _SPEED_FROM_TOKENS and written > MOST_TOKENS_PER_S * max(1, given.latency_ms) / 1_000:
            return Fault.SPEED
    # An answer that was cut off for its length cannot follow the schema.
    whole = given.finish not in (Finish.LENGTH, Finish.SIZE)
    return Fault.FORMAT if whole and not _follows(asked, given.text) else None


def is_cut_off(given: Answer) -> bool:
    """Whether its provider says that it was told to stop, though it was not."""
    return given.finish is Finish.CANCELLED


def doubts_of(asked: JobSpec, given: Answer) -> tuple[Doubt, ...]:
    """The doubts about an answer, none of which proves anything."""
    found: list[Doubt] = []
    text = _plain(given.text)
    if not text:
        found.append(Doubt.EMPTY)
    if _is_echo(_plain(asked.prompt), text):
        found.append(Doubt.ECHO)
    if _is_loop(given.text):
        found.append(Doubt.REPETITION)
    if _is_cut(asked, given):
        found.append(Doubt.CUT)
    if given.queue_ms + given.run_ms > given.latency_ms + _CLOCK_SLACK_MS:
        found.append(Doubt.TIMING)
    return tuple(found)


def same(asked: JobSpec, one: Answer, other: Answer) -> bool | None:
    """Whether two answers to one question agree; None when nothing follows from their difference.

    Answers that follow a schema, or are put to the vote, are compared as values. Free text is compared only between
    providers that name the same weights, and only at temperature 0.
    """
    if asked.schema is not None or asked.votes > 1:
        return value_of(one.text) == value_of(other.text)
    if not one.sha256 or one.sha256 != other.sha256 or asked.temperature:
        return None
    if one.usage is not None and other.usage is not None and one.usage.prompt_tokens != other.usage.prompt_tokens:
        # The same tokenizer makes the same number of tokens of the same prompt.
        return False
    a, b = one.text.strip(), other.text.strip()
    if a == b:
        return True
    if Finish.SIZE in (one.finish, other.finish):
        return None if a.startswith(b) or b.startswith(a) else False
    if a.startswith(b) or b.startswith(a):
        # Owners may limit the same model to different lengths, and announce it.
        return None if (one if len(a) < len(b) else other).is_longest else False
    common = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
    return common >= _COMMON_CHARS and common >= _COMMON_SHARE * min(len(a), len(b))


def value_of(text: str) -> object:
    """The value of a structured answer: its JSON, regardless of white space, order of keys and case."""
    try:
        value = orjson.loads(text)
        if not _holds_more(value, MOST_VALUES):
            # As bytes, since in Python 1 equals True, in nested values too.
            return orjson.dumps(_canonical(value))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        # No JSON, or nested hundreds deep: no reader of structured answers would take it either.
        pass
    return _plain(text)


def judge(score: Score, *, greedy: bool, finish: Finish | None) -> Verdict:
    """What teacher-forced ranks say of an answer.

    The tokens of a greedy answer are the model's first choice, except for ties that rounding decides and where the
    text is cut into other tokens than it was made of. Those of a sampled answer are at least among the likely ones.
    """
    count = len(score.ranks)
    if finish is Finish.STOP and score.end_rank > 50:
        return Verdict.FAILED
    if not count:
        return Verdict.PASSED if score.end_rank == 0 else Verdict.UNCLEAR
    misses = sum(rank > (0 if greedy else 100) for rank in score.ranks)
    if misses <= max(1, math.floor(0.03 * count)) and misses < count:
        return Verdict.PASSED
    return Verdict.FAILED if misses > max(2, 0.1 * count) or misses == count else Verdict.UNCLEAR


def _is_of_another_model(asked: JobSpec, given: Answer, offered: Iterable[OfferedModel]) -> bool:
    weights = {model.sha256 for model in offered}
    named = given.model or weights
    if named and asked.model is not None and asked.model not in (given.model, f"sha256:{given.sha256}"):
        return True
    # An answer by unknown weights could be compared with no other provider's, and would escape all checks.
    return bool(weights) and "" not in weights and given.sha256 not in weights


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value) if abs(value) < _EXACT else value
    return _plain(value) if isinstance(value, str) else value


def _is_echo(prompt: str, text: str) -> bool:
    """Whether the text is the prompt, or nearly: one holds the other and is hardly longer."""
    if not prompt or not text:
        return False
    return (
        text == prompt
        or (prompt in text and len(prompt) >= _ECHO * len(text))
        or (text in prompt and len(text) >= _ECHO * len(prompt))
    )


def _is_loop(text: str) -> bool:
    """Whether the text ends in one short piece over and over."""
    tail = text[-_LOOP_CHARS:]
    for size in range(1, len(tail) // _REPEATS + 1):
        piece = tail[-size:]
        if piece.strip() and tail.endswith(piece * _REPEATS):
            return True
    return False


def _is_cut(asked: JobSpec, given: Answer) -> bool:
    if given.usage is None or asked.stop:
        return False
    written = given.usage.completion_tokens
    if given.finish is Finish.LENGTH and asked.max_tokens is not None and written < asked.max_tokens:
        return not given.is_longest
    return given.finish is Finish.STOP and written > 40 and len(given.text.encode()) < _THIN_BYTES_PER_TOKEN * written


def _follows(asked: JobSpec, text: str) -> bool:
    """Whether an answer follows the schema that was asked for, if there is one."""
    if asked.schema is None:
        return True
    most = MOST_VALUES if asked.max_tokens is None else min(MOST_VALUES, asked.max_tokens * _VALUES_PER_TOKEN)
    try:
        value = orjson.loads(text)
        return not _holds_more(value, most) and bool(validator_of(orjson.dumps(asked.schema)).is_valid(value))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        # A schema that refers to itself is followed as deep as the answer is nested.
        return False


def _holds_more(value: Any, most: int) -> bool:
    """Whether a JSON value consists of more than so many values, itself included."""
    left, seen = [value], 0
    while left and seen + len(left) <= most:
        one = left.pop()
        seen += 1
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
    return bool(left)
