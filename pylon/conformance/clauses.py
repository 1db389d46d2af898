"""The clauses that a provider must fulfil: each with its text and the heading of docs/protocol.md that states it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ClauseOutcome(StrEnum):
    """The outcome of one clause. `skipped`: whether it holds could not be observed."""

    PASS = "pass"  # noqa: S105 - a word, no secret
    FAIL = "fail"
    SKIPPED = "skipped"


class Clause(StrEnum):
    """The clauses, in the order of their report."""

    ANNOUNCEMENT = "announcement"
    ANNOUNCED_MODELS = "announced-models"
    ANNOUNCED_PRICE = "announced-price"
    HEARTBEAT = "heartbeat"
    HEARTBEAT_FRESH = "heartbeat-fresh"
    ANSWERED = "answered"
    AUTHOR = "author"
    RESULT_KIND = "result-kind"
    NAMES_REQUEST = "names-request"
    NAMES_CUSTOMER = "names-customer"
    SEALED = "sealed"
    VERSION = "version"
    EXPIRATION = "expiration"
    MODEL = "model"
    USAGE = "usage"
    TIMING = "timing"
    FINISH = "finish"
    CLEAN_TEXT = "clean-text"
    MAX_TOKENS = "max-tokens"
    ZSTD = "zstd"
    PLAIN_SEALED = "plain-sealed"
    CHAT = "chat"
    KINDS = "kinds"
    OPEN_ANSWERED = "open-answered"
    OPEN_FORM = "open-form"
    OPEN_ECHO = "open-echo"
    UNKNOWN_PARAM = "unknown-param"
    UNKNOWN_MODEL = "unknown-model"
    FETCHING_INPUT = "fetching-input"
    UNDECRYPTABLE = "undecryptable"
    BOMB = "bomb"
    EXPIRED = "expired"
    STALE = "stale"
    UNSERVED_KIND = "unserved-kind"
    MALFORMED = "malformed"
    NOT_FOR_US = "not-for-us"
    ONCE = "once"
    CANCEL = "cancel"
    FOREIGN_CANCEL = "foreign-cancel"
    FEEDBACK = "feedback"
    CODES = "codes"

    @property
    def says(self) -> str:
        """The clause as a sentence."""
        return _TEXTS[self][0]

    @property
    def place(self) -> str:
        """The heading of docs/protocol.md that states it."""
        return _TEXTS[self][1]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one clause, and why; `why` is empty for a pass."""

    clause: Clause
    outcome: ClauseOutcome
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The verdict as `--json` prints it."""
        clause = self.clause
        return {
            "clause": clause.value,
            "outcome": self.outcome.value,
            "why": self.why,
            "says": clause.says,
            "place": clause.place,
        }


def judged(clause: Clause, wrong: str | None) -> Verdict:
    """A pass if `wrong` is None, else a failure for that reason."""
    return Verdict(clause, ClauseOutcome.PASS) if wrong is None else Verdict(clause, ClauseOutcome.FAIL, wrong)


def skipped(clause: Clause, why: str) -> Verdict:
    """A clause that could not be observed, and why."""
    return Verdict(clause, ClauseOutcome.SKIPPED, why)


_ANNOUNCEMENT = "Announcement (31990)"
_HEARTBEAT = "Heartbeat (11998)"
_RESULT = "Result (6940, 6050)"
_ANSWERS = "Answers: result and feedback"
_CANCELLATION = "Cancellation (5)"
_TEXTS: dict[Clause, tuple[str, str]] = {
    Clause.ANNOUNCEMENT: ("an announcement states its kinds, its d tag and the schema", _ANNOUNCEMENT),
    Clause.ANNOUNCED_MODELS: (
        "each model is announced with id, weights, quantization and context",
        _ANNOUNCEMENT,
    ),
    Clause.ANNOUNCED_PRICE: ("a price has three amounts and names its network", _ANNOUNCEMENT),
    Clause.HEARTBEAT: (
        "a heartbeat matches the announcement, expires, and tells how busy the provider is",
        _HEARTBEAT,
    ),
    Clause.HEARTBEAT_FRESH: ("the newest heartbeat is at most 120 seconds old", _HEARTBEAT),
    Clause.ANSWERED: ("a private request gets a result", "The exchange"),
    Clause.AUTHOR: ("the result is signed by the provider that was asked", _ANSWERS),
    Clause.RESULT_KIND: ("a result's kind is the request's plus 1000", "Kinds"),
    Clause.NAMES_REQUEST: ("a result names its request in its e tag", _ANSWERS),
    Clause.NAMES_CUSTOMER: ("a result names its customer in its p tag", _ANSWERS),
    Clause.SEALED: ("the result of a sealed request is sealed, with nothing outside the seal", _ANSWERS),
    Clause.VERSION: ("a result carries the schema's version", _ANSWERS),
    Clause.EXPIRATION: ("a result has an expiration", _ANSWERS),
    Clause.MODEL: ("a result names the model that answered", _RESULT),
    Clause.USAGE: ("a result has token counts", _RESULT),
    Clause.TIMING: ("a result's times are rounded to 50 ms", _RESULT),
    Clause.FINISH: ("a result states why its text ends", _RESULT),
    Clause.CLEAN_TEXT: ("a result contains no control characters", _RESULT),
    Clause.MAX_TOKENS: ("an answer is no longer than max_tokens", "Parameters"),
    Clause.ZSTD: ("a compressed request is understood", "Private form"),
    Clause.PLAIN_SEALED: (
        "NIP-90's own encrypted form is understood, and its result is only the sealed text",
        "Private form",
    ),
    Clause.CHAT: ("a chat array is understood", "Parameters"),
    Clause.KINDS: ("every announced kind is served", "Kinds"),
    Clause.OPEN_ANSWERED: ("an open request gets a result", "Open form"),
    Clause.OPEN_FORM: ("an open request's result is open, with text and tags in the event", _ANSWERS),
    Clause.OPEN_ECHO: ("an open result repeats the request and its i tag", _ANSWERS),
    Clause.UNKNOWN_PARAM: ("an unknown parameter is refused with unsupported_param", "Parameters"),
    Clause.UNKNOWN_MODEL: ("an unknown model is refused with unsupported_model", "Codes"),
    Clause.FETCHING_INPUT: ("an input that would have to be fetched is refused with unsupported_param", "Open form"),
    Clause.UNDECRYPTABLE: ("a request sealed for another key is refused with undecryptable", "Codes"),
    Clause.BOMB: ("a payload that expands more than a hundredfold is refused with too_large", "Limits"),
    Clause.EXPIRED: ("a request whose deadline has passed is refused with expired", "Deadline"),
    Clause.STALE: ("a request that arrives over 15 minutes after it was made is not done", "Deadline"),
    Clause.UNSERVED_KIND: ("a kind that is not announced is not served", "Codes"),
    Clause.MALFORMED: ("a stranger's malformed request gets no answer", "Codes"),
    Clause.NOT_FOR_US: ("a request addressed to another provider is ignored", "Open form"),
    Clause.ONCE: ("a request that arrives twice has one result", "What happens to a job"),
    Clause.CANCEL: ("a job cancelled before any of it was sent brings no result", _CANCELLATION),
    Clause.FOREIGN_CANCEL: ("another customer's cancellation changes nothing", _CANCELLATION),
    Clause.FEEDBACK: ("feedback is addressed and sealed like a result, and has a status", "Feedback (7000)"),
    Clause.CODES: ("every error has a code from the list", "Codes"),
}
