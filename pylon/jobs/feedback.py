"""Job feedback, kind 7000 (NIP-90 "Job Feedback")."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pylon.errors import MalformedError
from pylon.jobs import answer
from pylon.jobs.answer import Address, Amount
from pylon.jobs.codes import ErrorCode
from pylon.jobs.kinds import FEEDBACK, SCHEMA
from pylon.jobs.payload import Payload
from pylon.jobs.size import check_size
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, Tag
from pylon.text import clean_text

MAX_MESSAGE = 500
MAX_WAIT_S = 1e6
_WAIT = re.compile(r"[0-9]{1,7}(\.[0-9])?")


class Status(StrEnum):
    """What happened to a job."""

    PAYMENT_REQUIRED = "payment-required"
    PROCESSING = "processing"
    PARTIAL = "partial"
    SUCCESS = "success"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Feedback:
    """One feedback event.

    `code` is set when `status` is `error`, unless a plain peer gave no code that we know. `text` is a sentence for
    people or, with `partial`, the piece of the answer that starts at character `offset`. `wait_s`, with `processing`,
    is in how many seconds the job begins, rounded to tenths: 0 when it has begun, None when that is not said.
    """

    address: Address
    status: Status
    code: ErrorCode | None = None
    text: str = ""
    offset: int | None = None
    amount: Amount | None = None
    wait_s: float | None = None


def feedback_draft(feedback: Feedback, keys: ConversationKeys, *, created_at: int, plain: bool = False) -> EventDraft:
    """The event, to be signed. `plain`: the request does not say that its customer knows `pylon/1`.

    The text is cleaned of control characters (`offset` counts what is left), and cut to 500 characters when it is
    a sentence for people. Raises `TooLargeError`, and `MalformedError` for values that would not be read back.
    """
    wait_s = None if feedback.wait_s is None else round(min(feedback.wait_s, MAX_WAIT_S), 1)
    feedback = replace(feedback, text=_readable(feedback.status, feedback.text), wait_s=wait_s)
    payload = Payload(feedback.text, _tags(feedback))
    answer.check_same(feedback, _read(feedback.address, payload))
    return check_size(
        answer.draft(FEEDBACK, feedback.address, payload, keys, echo=(), created_at=created_at, plain=plain)
    )


def shared_error_draft(
    requests: Sequence[Address], code: ErrorCode, text: str, *, created_at: int, expiration: int
) -> EventDraft:
    """One error for many requests, to be signed: each has an `e` tag, and its customer a `p` tag.

    It is readable by everybody, since nothing can be encrypted for many. For each of these customers it means what an
    error of its own would mean. Raises `TooLargeError`.
    """
    named: list[Tag] = [("e", address.request) for address in requests]
    named += [("p", customer) for customer in dict.fromkeys(address.customer for address in requests)]
    tags = (*named, ("status", Status.ERROR.value, code.value), ("v", SCHEMA), ("expiration", str(expiration)))
    return check_size(EventDraft(FEEDBACK, _readable(Status.ERROR, text), tags, created_at))


def parse_feedback(event: Event, keys: ConversationKeys) -> Feedback:
    """The feedback in a verified event. Raises `MalformedError`, `DecryptionError`, `TooLargeError`."""
    if event.kind != FEEDBACK:
        raise MalformedError(f"kind {event.kind} is not job feedback")
    return _read(*answer.read(event, keys))


def _tags(feedback: Feedback) -> tuple[Tag, ...]:
    tags: list[Tag] = [("status", feedback.status.value)]
    if feedback.code is not None:
        tags = [("status", feedback.status.value, feedback.code.value)]
    if feedback.offset is not None:
        tags.append(("offset", str(feedback.offset)))
    if feedback.wait_s is not None:
        tags.append(("wait", f"{feedback.wait_s:.1f}"))
    if feedback.amount is not None:
        tags.append(feedback.amount.to_tag())
    return tuple(tags)


def _read(address: Address, payload: Payload) -> Feedback:
    tags = answer.first_tags(payload.tags, {})
    tag = tags.get("status")
    if tag is None or tag[1] not in Status:
        raise MalformedError("job feedback needs a status of NIP-90")
    status = Status(tag[1])
    code = ErrorCode(tag[2]) if status is Status.ERROR and len(tag) > 2 and tag[2] in ErrorCode else None
    # Plain peers put the reason for people into the status tag.
    text = payload.text or (tag[2] if len(tag) > 2 and code is None else "")
    return Feedback(
        address,
        status,
        code,
        _readable(status, text),
        _offset(tags.get("offset")),
        answer.parse_amount(tags.get("amount")),
        _wait(tags.get("wait")) if status is Status.PROCESSING else None,
    )


def _readable(status: Status, text: str) -> str:
    text = clean_text(text)
    return text if status is Status.PARTIAL else text[:MAX_MESSAGE]


def _offset(tag: Tag | None) -> int | None:
    if tag is None:
        return None
    if not (tag[1].isascii() and tag[1].isdigit() and len(tag[1]) <= 9):
        raise MalformedError("the offset of a partial answer must be a number of characters")
    return int(tag[1])


def _wait(tag: Tag | None) -> float | None:
    # An extension of ours, of little weight: a job under way is not given up for one that cannot be read.
    if tag is None or not _WAIT.fullmatch(tag[1]):
        return None
    return min(float(tag[1]), MAX_WAIT_S)
