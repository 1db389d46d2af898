"""Judges one result, and all feedback, by the contents of the events."""

import re

import orjson

from pylon.conformance import wire
from pylon.conformance.clauses import Clause, Verdict, judged, skipped
from pylon.conformance.customer import Customer
from pylon.conformance.wire import OpenedAnswer
from pylon.errors import WireError
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import Status
from pylon.jobs.kinds import SCHEMA, result_kind
from pylon.jobs.request import is_plain
from pylon.nostr.event import Event, expiration
from pylon.text import is_clean

TIMING_STEP_MS = 50
_OUTSIDE = frozenset({"e", "p", "v", "expiration", "encrypted", "encoding"})
_OUTSIDE_PLAIN = frozenset({"e", "p", "v", "expiration", "encrypted", "request", "amount"})
_SHA256 = re.compile("([0-9a-f]{64})?")
_RECEIPT = (
    Clause.MODEL,
    Clause.USAGE,
    Clause.TIMING,
    Clause.FINISH,
    Clause.CLEAN_TEXT,
    Clause.MAX_TOKENS,
)


def judge_result(customer: Customer, request: Event, event: Event, now: float) -> list[Verdict]:
    """The verdicts on the result of a request in the private form. `now` is Unix seconds."""
    verdicts = [
        judged(Clause.AUTHOR, None if event.pubkey == customer.provider else f"it is signed by {event.pubkey[:16]}…"),
        judged(
            Clause.RESULT_KIND,
            None if event.kind == result_kind(request.kind) else f"{request.kind} was answered by {event.kind}",
        ),
        judged(Clause.NAMES_REQUEST, None if event.tag("e") == request.id else "its e tag is not the request's id"),
        judged(
            Clause.NAMES_CUSTOMER,
            None if event.tag("p") == customer.secret.public else "its p tag is not the customer's key",
        ),
        judged(Clause.VERSION, None if event.tag("v") == SCHEMA else f"there is no v tag with {SCHEMA}"),
        judged(Clause.EXPIRATION, _lasts(event, now)),
    ]
    try:
        answer = customer.opened(event)
    except WireError as error:
        verdicts.append(judged(Clause.SEALED, f"the content cannot be decrypted: {error}"))
        return verdicts + [skipped(clause, "the result cannot be decrypted") for clause in _RECEIPT]
    verdicts.append(judged(Clause.SEALED, _sealed(event, answer)))
    usage = _numbers(answer, "usage")
    return [
        *verdicts,
        judged(Clause.MODEL, _model(answer)),
        judged(Clause.USAGE, None if usage else "there is no usage tag with two whole numbers"),
        judged(Clause.TIMING, _timing(answer)),
        judged(Clause.FINISH, _finish(answer)),
        judged(Clause.CLEAN_TEXT, None if is_clean(answer.text) else "the text contains control characters"),
        judged(
            Clause.MAX_TOKENS,
            f"it counts {usage[1]} tokens, but {wire.MAX_TOKENS} were asked for"
            if usage and usage[1] > wire.MAX_TOKENS
            else None,
        ),
    ]


def judge_open(customer: Customer, request: Event, event: Event) -> list[Verdict]:
    """The verdicts on the result of a request in the open form."""
    answer = OpenedAnswer(event.content, event.tags, sealed=False)
    wrong: str | None = None
    if wire.is_sealed(event):
        wrong = "it is sealed, and its customer may not be able to open it"
    elif event.tag("e") != request.id or event.tag("p") != customer.secret.public or event.tag("v") != SCHEMA:
        wrong = "it lacks e, p or v"
    elif event.kind != result_kind(request.kind):
        wrong = f"{request.kind} was answered by {event.kind}"
    elif not (_numbers(answer, "usage") and answer.find("model") and answer.find("finish")):
        wrong = "the receipt (model, usage, finish) is not in the event"
    source = next(tag for tag in request.tags if tag[0] == "i")
    return [judged(Clause.OPEN_FORM, wrong), judged(Clause.OPEN_ECHO, _echo(event, source, request))]


def judge_plain_sealed(customer: Customer, event: Event) -> Verdict:
    """The verdict on the result of a request in NIP-90's own encrypted form."""
    try:
        answer = wire.opened(event, customer.keys, plain=True)
    except WireError as error:
        return judged(Clause.PLAIN_SEALED, f"the content does not open: {error}")
    outside = sorted({tag[0] for tag in event.tags} - _OUTSIDE_PLAIN)
    wrong: str | None = None
    if not answer.sealed:
        wrong = "it is not encrypted"
    elif _is_envelope(answer.text):
        wrong = "it encrypts the object of pylon/1, which this customer does not know, instead of the text itself"
    elif outside:
        wrong = f"{', '.join(outside)} are outside the encrypted part"
    return judged(Clause.PLAIN_SEALED, wrong)


def judge_feedback(customers: list[Customer]) -> list[Verdict]:
    """The verdicts on all feedback that these customers received, to whichever probe."""
    feedback = [(customer, event) for customer in customers for event in customer.feedback()]
    if not feedback:
        return [skipped(clause, "no feedback arrived") for clause in (Clause.FEEDBACK, Clause.CODES)]
    shapes = [_feedback(customer, event) for customer, event in feedback]
    codes = [(*status, "")[1] for customer in customers for status in customer.statuses() if status[:1] == ("error",)]
    unknown = [code for code in codes if code not in ErrorCode]
    return [
        judged(Clause.FEEDBACK, next((wrong for wrong in shapes if wrong is not None), None)),
        judged(Clause.CODES, f"{unknown[0][:40]!r} is not in the list" if unknown else None)
        if codes
        else skipped(Clause.CODES, "nothing was refused"),
    ]


def _feedback(customer: Customer, event: Event) -> str | None:
    if len(tuple(event.tag_values("e"))) > 1:
        return _shared_refusal(customer, event)
    request = customer.asked.get(event.tag("e") or "")
    if request is None or event.tag("p") != customer.secret.public:
        return "its e and p tags are not those of the request and its customer"
    if event.tag("v") != SCHEMA:
        return f"there is no v tag with {SCHEMA}"
    try:
        answer = customer.opened(event)
    except WireError as error:
        return f"the content cannot be decrypted: {error}"
    sealed = wire.is_sealed(request)
    if is_plain(request) and sealed:
        sealed = bool(answer.text)
    if answer.sealed != sealed:
        return "it is not in the form of its request"
    if answer.sealed and not is_plain(request) and (wrong := _sealed(event, answer)):
        return wrong
    status = answer.find("status")
    return None if status is not None and status[1:2] and status[1] in Status else "its status is not in the table"


def _shared_refusal(customer: Customer, event: Event) -> str | None:
    """What is wrong with one error for the requests of many customers."""
    if wire.is_sealed(event):
        return "it is encrypted, although it names several requests"
    if not customer.asked.keys() & event.tag_values("e"):
        return "none of its e tags is the request"
    if customer.secret.public not in event.tag_values("p"):
        return "none of its p tags is the customer"
    if event.tag("v") != SCHEMA:
        return f"there is no v tag with {SCHEMA}"
    if expiration(event) is None:
        return "there is no expiration tag with a Unix time"
    return None if event.tag("status") == Status.ERROR else "several requests share what is not an error"


def _sealed(event: Event, answer: OpenedAnswer) -> str | None:
    if not answer.sealed:
        return "it is not encrypted"
    outside = sorted({tag[0] for tag in event.tags} - _OUTSIDE)
    return f"{', '.join(outside)} are outside the encrypted part" if outside else None


def _is_envelope(text: str) -> bool:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and "tags" in found


def _lasts(event: Event, now: float) -> str | None:
    ends = expiration(event)
    if ends is None:
        return "there is no expiration tag with a Unix time"
    return None if ends > now else "it had already expired when it arrived"


def _model(answer: OpenedAnswer) -> str | None:
    tag = answer.find("model")
    if tag is None or len(tag) < 4 or not 1 <= len(tag[1]) <= 200:
        return "there is no model tag with an id, a sha256 and a quantization"
    return None if _SHA256.fullmatch(tag[2]) else "the hash of the weights is not 64 hexadecimal characters"


def _timing(answer: OpenedAnswer) -> str | None:
    timing = _numbers(answer, "timing")
    if timing is None:
        return "there is no timing tag with two whole numbers"
    uneven = [str(ms) for ms in timing if ms % TIMING_STEP_MS]
    return f"{' and '.join(uneven)} ms are not rounded" if uneven else None


def _finish(answer: OpenedAnswer) -> str | None:
    tag = answer.find("finish")
    if tag is not None and tag[1:2] == ("cancelled",):
        return "it says the job was cancelled, but nobody cancelled it"
    return None if tag is not None and tag[1:2] and tag[1] in ("stop", "length", "size") else "there is no finish tag"


def _numbers(answer: OpenedAnswer, name: str) -> tuple[int, int] | None:
    tag = answer.find(name)
    if tag is None or len(tag) < 3 or not all(v.isascii() and v.isdigit() and len(v) <= 12 for v in tag[1:3]):
        return None
    return int(tag[1]), int(tag[2])


def _echo(event: Event, source: tuple[str, ...], request: Event) -> str | None:
    if source not in event.tags:
        return "the request's i tag is not repeated"
    copy = event.tag("request")
    try:
        same = copy is not None and orjson.loads(copy).get("id") == request.id
    except (orjson.JSONDecodeError, AttributeError):
        same = False
    return None if same else "there is no request tag with the request, though it fits"
