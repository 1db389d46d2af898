"""Job results, kinds 6050 and 6940 (NIP-90 "Job Result"), with the receipt of `pylon/1`."""

import re
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache, partial

import orjson

from pylon.errors import MalformedError, TooLargeError
from pylon.jobs import answer
from pylon.jobs.answer import Address, Amount
from pylon.jobs.kinds import RESULT_KINDS
from pylon.jobs.payload import Payload
from pylon.jobs.size import MAX_EVENT_BYTES, MAX_INDEXED_BYTES, check_size, event_bytes
from pylon.money.accounts.receipt import AccountReceipt, parse_receipt
from pylon.money.accounts.usage import Usage
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, Tag
from pylon.records import record
from pylon.text import clean_text, is_clean, is_line

# Finer timings would tell customers about other jobs of this machine.
TIMING_STEP_MS = 50


class Finish(StrEnum):
    """Why an answer ends: by itself (`stop`), at `max_tokens` (`length`), or since one event holds no more (`size`).

    `cancelled` is no answer: the customer cancelled the job, and pays for the pieces that it was sent.
    """

    STOP = "stop"
    LENGTH = "length"
    SIZE = "size"
    CANCELLED = "cancelled"


_FINISHES = {finish.value: finish for finish in Finish}
# The fewest elements of a tag, its name included; a shorter tag is ignored.
_LEAST = {"model": 4, "usage": 3, "timing": 3}
_SHA256 = re.compile("([0-9a-f]{64})?")
_COUNT = re.compile("[0-9]{1,12}")
# Models of the nodes that a customer asks in turn.
_MODELS = 64


@record
class ModelUsed:
    """The model that answered. `sha256` is its weights hash, 64 hex characters; empty for engines without files."""

    id: str
    sha256: str = ""
    quantization: str = ""

    def to_tag(self) -> Tag:
        return ("model", self.id, self.sha256, self.quantization)


@record
class Timing:
    """The time in the queue and in the engine, in milliseconds rounded to 50 ms."""

    queue_ms: int
    run_ms: int

    @classmethod
    def rounded(cls, queue_s: float, run_s: float) -> "Timing":
        """The timing for times in seconds."""
        return cls(_step(queue_s * 1_000), _step(run_s * 1_000))


@record
class JobResult:
    """A result. That of a plain NIP-90 provider has only a text."""

    address: Address
    kind: int
    text: str
    model: ModelUsed | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    finish: Finish | None = None
    amount: Amount | None = None
    account: AccountReceipt | None = None

    @property
    def completion_tokens(self) -> int:
        """The tokens of the answer; 0 when the provider did not count them."""
        return 0 if self.usage is None else self.usage.completion_tokens


def result_draft(
    result: JobResult,
    keys: ConversationKeys,
    *,
    request: Event,
    created_at: int,
    limit: int = MAX_EVENT_BYTES,
    plain: bool = False,
) -> EventDraft:
    """The event, to be signed. `request` is the event that it answers; `plain`: that does not say that its customer
    knows `pylon/1`. `limit` is in bytes.

    A text that does not fit one event is cut, and `finish` is then `size`. Raises `TooLargeError` when not even an
    empty answer fits, and `MalformedError` for values that our own reader would not read back.
    """
    if result.kind not in RESULT_KINDS:
        raise MalformedError(f"kind {result.kind} is not a job result")
    text = clean_text(result.text)
    timing = result.timing and Timing(_step(result.timing.queue_ms), _step(result.timing.run_ms))
    if text != result.text or timing != result.timing:
        result = replace(result, text=text, timing=timing)
    payload = _payload(result)
    answer.check_same(result, _read(result.address, result.kind, payload))
    draft_of = partial(
        _draft, result.kind, result.address, keys, request=request, created_at=created_at, limit=limit, plain=plain
    )
    whole = draft_of(payload)
    if event_bytes(whole) <= limit:
        return whole
    # By bisection, since how well a text compresses is not known beforehand. The result always fits; with repetitive
    # texts a longer prefix might fit as well.
    low, high = 0, len(result.text)
    while low < high:
        middle = (low + high + 1) // 2
        if event_bytes(draft_of(_cut(result, middle))) <= limit:
            low = middle
        else:
            high = middle - 1
    return check_size(draft_of(_cut(result, low)), limit)


def _cut(result: JobResult, characters: int) -> Payload:
    return _payload(replace(result, text=result.text[:characters], finish=Finish.SIZE))


def _step(ms: float) -> int:
    return TIMING_STEP_MS * round(ms / TIMING_STEP_MS)


def _payload(result: JobResult) -> Payload:
    tags: list[Tag] = []
    if result.model is not None:
        tags.append(result.model.to_tag())
    if result.usage is not None:
        tags.append(("usage", str(result.usage.prompt_tokens), str(result.usage.completion_tokens)))
    if result.timing is not None:
        tags.append(("timing", str(result.timing.queue_ms), str(result.timing.run_ms)))
    if result.finish is not None:
        tags.append(("finish", result.finish.value))
    if result.amount is not None:
        tags.append(result.amount.to_tag())
    if result.account is not None:
        tags.append(result.account.to_tag())
    return Payload(result.text, tuple(tags))


def _draft(
    kind: int,
    address: Address,
    keys: ConversationKeys,
    payload: Payload,
    *,
    request: Event,
    created_at: int,
    limit: int,
    plain: bool,
) -> EventDraft:
    def make(echo: tuple[Tag, ...]) -> EventDraft:
        try:
            return answer.draft(kind, address, payload, keys, echo=echo, created_at=created_at, plain=plain)
        except TooLargeError:
            # More than a payload may hold: a draft that is too large makes the bisection go on with less.
            return EventDraft(kind, "x" * (limit + 1))

    if address.private and not plain:
        return make(())
    # NIP-90 asks for the request and its inputs. They are left out when the event would not fit with them.
    inputs = tuple(tag for tag in request.tags if tag[0] == "i" and _may_echo(tag) and not address.private)
    full = make((("request", orjson.dumps(request.to_dict()).decode()), *inputs))
    if event_bytes(full) <= limit:
        return full
    short = make(inputs)
    return short if event_bytes(short) <= limit else make(())


def _may_echo(tag: Tag) -> bool:
    # Tags of a customer's event could spoil ours: relays might refuse it, or hash it differently.
    return all(is_clean(value) and len(value.encode()) <= MAX_INDEXED_BYTES for value in tag)


def parse_result(event: Event, keys: ConversationKeys) -> JobResult:
    """The result in a verified event. Raises `MalformedError`, `DecryptionError`, `TooLargeError`."""
    if event.kind not in RESULT_KINDS:
        raise MalformedError(f"kind {event.kind} is not a job result")
    address, payload = answer.read(event, keys)
    return _read(address, event.kind, payload)


def _read(address: Address, kind: int, payload: Payload) -> JobResult:
    tags = answer.first_tags(payload.tags, _LEAST)
    model, finish, account = tags.get("model"), tags.get("finish"), tags.get("account")
    usage, timing = _pair(tags.get("usage")), _pair(tags.get("timing"))
    return JobResult(
        address,
        kind,
        # A hostile provider may send control characters, which terminals obey.
        clean_text(payload.text),
        None if model is None else _model(*model[1:4]),
        None if usage is None else Usage(*usage),
        None if timing is None else Timing(*timing),
        None if finish is None else _FINISHES.get(finish[1]),
        answer.parse_amount(tags.get("amount")),
        None if account is None else parse_receipt(account),
    )


# Cached, since all results of a node name its model.
@lru_cache(maxsize=_MODELS)
def _model(id_: str, sha256: str, quantization: str) -> ModelUsed:
    readable = len(id_) <= 200 and len(quantization) <= 40 and is_line(id_ + quantization)
    if not readable or not _SHA256.fullmatch(sha256):
        raise MalformedError("the model tag of a result must be an id, a sha256 and a quantization")
    return ModelUsed(id_, sha256, quantization)


def _pair(tag: Tag | None) -> tuple[int, int] | None:
    if tag is None:
        return None
    name, one, other = tag[:3]
    if not (_COUNT.fullmatch(one) and _COUNT.fullmatch(other)):
        raise MalformedError(f"the {name} tag of a result must hold two whole numbers")
    return int(one), int(other)
