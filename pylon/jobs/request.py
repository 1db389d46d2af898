"""Job requests, in the private form of `pylon/1` and in the open form of plain NIP-90.

Both forms carry the same `JobRequest`. In the private form nothing outside the encrypted payload tells what is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from functools import lru_cache

from pylon.errors import DecryptionError, MalformedError, MoneyError, TooLargeError
from pylon.jobs.answer import first_tags
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.kinds import REQUEST_KINDS, RLM_REQUEST, SCHEMA
from pylon.jobs.parameters import JobParameters, parse_parameters
from pylon.jobs.payload import Payload, load_json, open_payload, seal
from pylon.jobs.size import MAX_EVENT_BYTES, check_size
from pylon.money.accounts.receipt import AccountSeen, parse_seen
from pylon.money.msat import Msat, parse_msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, Tag, ends_at, is_hex64
from pylon.records import record
from pylon.text import is_clean

# Common relay software refuses longer values of one-letter tags. A longer prompt is written into the content.
MAX_OPEN_INPUT_BYTES = 1_000
# NIP-90 names "text"; registries of DVMs write "prompt" for kind 5050. Both are the prompt itself.
_INPUT_TYPES = frozenset({"text", "prompt"})
# The registry of kind 5050 names the first two; "text" is what some clients write for the first.
_OUTPUTS = frozenset({"text/plain", "text/markdown", "text", "application/json"})
_MAX_DEADLINE = 10**16 - 1
# A later deadline counts as this. An answer expires after its request, and a time too far ahead cannot be written.
_MAX_WAIT_S = 366 * 24 * 3_600
# An `account-seen` tag without its values is malformed; other tags that short are ignored.
_LEAST = {"account-seen": 1}
# Cache sizes. A set of parameters may hold a system prompt and a schema, 300 kB in all.
_PARAMETERS = 16
_AMOUNTS = 256
_TERMS = ("output", "bid", "topup", "account_seen")


@record
class JobRequest:
    """What a customer asks for.

    `text` is the prompt; with `parameters.messages` it is a JSON chat array. `bid` is the most that the job may cost,
    `topup` what the customer offers to pay ahead. `expiration` is the deadline for both sides, in Unix seconds; one
    that was read is at most 366 days after its request.
    """

    text: str
    parameters: JobParameters = field(default_factory=JobParameters)
    kind: int = RLM_REQUEST
    output: str = "text/plain"
    bid: Msat | None = None
    topup: Msat | None = None
    account_seen: AccountSeen | None = None
    expiration: int | None = None


@record
class ReceivedRequest:
    """A request that was read from an event: its id, who asks, and in which form to answer."""

    id: str
    customer: str
    created_at: int
    job: JobRequest
    private: bool
    # NIP-90 lets a customer name several providers; none makes it a broadcast, which anyone may serve.
    providers: tuple[str, ...]
    # The event does not say `pylon/1`: its customer may know NIP-90 alone.
    plain: bool = False


def private_draft(
    job: JobRequest, provider: str, keys: ConversationKeys, *, created_at: int, limit: int = MAX_EVENT_BYTES
) -> EventDraft:
    """The request, sealed for one provider, to be signed.

    Raises `TooLargeError` when it does not fit an event of `limit` bytes, and `RequestError` for a job that a
    provider would refuse as malformed.
    """
    content, sealed = seal(keys, provider, Payload(job.text, (("i", "", "text"), *_checked_tags(job))))
    tags = (("p", provider), *sealed, ("v", SCHEMA), *_expiration_tags(job))
    return check_size(EventDraft(job.kind, content, tags, created_at), limit)


def open_draft(
    job: JobRequest, provider: str | None, *, salt: str, created_at: int, limit: int = MAX_EVENT_BYTES
) -> EventDraft:
    """The request in the form that any NIP-90 provider can read, to be signed. `provider` None broadcasts it.

    `salt` is random: two equal jobs of one second would otherwise be one event. Raises `TooLargeError` and
    `RequestError` as `private_draft` does; the latter for control characters too, which relays hash differently.
    """
    if provider is not None and not is_hex64(provider):
        raise RequestError(ErrorCode.MALFORMED, "a provider is named by 64 lower-case hex characters")
    job_tags = _checked_tags(job)
    if not all(is_clean(value) for value in (job.text, salt, *(value for tag in job_tags for value in tag))):
        raise RequestError(ErrorCode.MALFORMED, "an open request holds no control characters: send it sealed")
    short = len(job.text.encode()) <= MAX_OPEN_INPUT_BYTES
    source: Tag = ("i", job.text, "text") if short else ("i", "", "text", "", "content")
    target: tuple[Tag, ...] = () if provider is None else (("p", provider),)
    tags = (source, *job_tags, *target, ("salt", salt), ("v", SCHEMA), *_expiration_tags(job))
    return check_size(EventDraft(job.kind, "" if short else job.text, tags, created_at), limit)


def parse_request(event: Event, keys: ConversationKeys) -> ReceivedRequest:
    """The request in a verified event of a request kind.

    Raises `RequestError` with the code that its customer is told.
    """
    if event.kind not in REQUEST_KINDS:
        raise RequestError(ErrorCode.UNSUPPORTED_KIND, f"kind {event.kind} is not served here")
    private = is_sealed(event)
    if private:
        payload = _open(event, keys)
        # NIP-90 encrypts inputs and parameters alone: plain peers leave the other tags outside.
        inner = (*payload.tags, *(tag for tag in event.tags if tag[0] in ("bid", "output")))
        text = _private_text(payload)
    else:
        inner, text = event.tags, _open_text(event)
    job = _job(event.kind, text, inner, _deadline(event))
    providers = tuple(event.tag_values("p"))
    return ReceivedRequest(event.id, event.pubkey, event.created_at, job, private, providers, is_plain(event))


def is_sealed(event: Event) -> bool:
    """Whether a request has the tag of encrypted content."""
    return any(tag[0] == "encrypted" for tag in event.tags)


def is_plain(event: Event) -> bool:
    """Whether a request does not say that its customer knows `pylon/1`: it is answered as NIP-90 has it."""
    return SCHEMA not in event.tag_values("v")


def is_nip04(event: Event) -> bool:
    """Whether a plain request is sealed with NIP-04, which is not read here. Its customer may read nothing else."""
    return "?iv=" in event.content and is_plain(event) and is_sealed(event)


def parse_messages(text: str) -> tuple[tuple[str, str], ...]:
    """The (role, content) pairs of a JSON chat array. Raises `RequestError`."""
    raw = _checked(load_json, text.encode("utf-8", "surrogatepass"))
    if not isinstance(raw, list) or not raw:
        raise RequestError(ErrorCode.MALFORMED, "a chat is a list of at least one message")
    messages: list[tuple[str, str]] = []
    for item in raw:
        match item:
            case {"role": "system" | "user" | "assistant" as role, "content": str(content)}:
                messages.append((role, content))
            case _:
                raise RequestError(
                    ErrorCode.MALFORMED, "a chat message needs a role (system, user, assistant) and a content"
                )
    return tuple(messages)


def _job(kind: int, text: str, tags: tuple[Tag, ...], deadline: int | None) -> JobRequest:
    """The job in these tags."""
    job = JobRequest(text, parse_parameters(tags), kind, *_terms(tags), deadline)
    if job.parameters.messages:
        parse_messages(job.text)
    return job


def _terms(tags: Sequence[Tag]) -> tuple[str, Msat | None, Msat | None, AccountSeen | None]:
    """The output, bid, topup and last seen account state in these tags."""
    found = first_tags(tags, _LEAST)
    return (
        _output(found.get("output")),
        _amount(found.get("bid")),
        _amount(found.get("topup")),
        _account_seen(found.get("account-seen")),
    )


def _checked_tags(job: JobRequest) -> tuple[Tag, ...]:
    """The job's tags, checked by reading them back. Raises `RequestError` when that does not give the same job."""
    if job.kind not in REQUEST_KINDS:
        raise RequestError(ErrorCode.UNSUPPORTED_KIND, f"kind {job.kind} is no request")
    if job.expiration is not None and not 0 <= job.expiration <= _MAX_DEADLINE:
        raise RequestError(ErrorCode.MALFORMED, "the expiration is not a Unix time")
    try:
        tags, others = _checked_parameters(job.parameters), _other_tags(job)
    except TypeError as error:
        # A list in place of a tuple, say, from a caller that no type checker has seen.
        raise RequestError(ErrorCode.MALFORMED, f"what this request says cannot be written: {error}") from error
    said, read = (job.output, job.bid, job.topup, job.account_seen), _terms(others)
    if read != said:
        wrong = ", ".join(name for name, one, other in zip(_TERMS, said, read, strict=True) if one != other)
        raise RequestError(ErrorCode.MALFORMED, f"what this request says cannot be written: {wrong}")
    if job.parameters.messages:
        parse_messages(job.text)
    return (*tags, *others)


def _checked_parameters(parameters: JobParameters) -> tuple[Tag, ...]:
    """The tags of parameters, checked in the same way."""
    tags = parameters.to_tags()
    if _parameters(tags) != parameters:
        raise RequestError(ErrorCode.MALFORMED, "what this request says cannot be written: parameters")
    return tags


# Cached by tags and not by parameters, since equal values can be written differently: 1, 1.0 and True. All questions
# of a run have the same parameters.
_parameters = lru_cache(maxsize=_PARAMETERS)(parse_parameters)
# Cached by text. Most jobs of a run have the same bid, and many the same deposit.
_msat = lru_cache(maxsize=_AMOUNTS)(parse_msat)


def _other_tags(job: JobRequest) -> list[Tag]:
    tags: list[Tag] = []
    if job.output != "text/plain":
        tags.append(("output", job.output))
    if job.bid is not None:
        tags.append(("bid", str(job.bid)))
    if job.topup is not None:
        tags.append(("topup", str(job.topup)))
    if job.account_seen is not None:
        tags.append(job.account_seen.to_tag())
    return tags


def _expiration_tags(job: JobRequest) -> tuple[Tag, ...]:
    return () if job.expiration is None else (("expiration", str(job.expiration)),)


def _open(event: Event, keys: ConversationKeys) -> Payload:
    if is_nip04(event):
        raise RequestError(ErrorCode.UNDECRYPTABLE, "NIP-04 is not read here: seal with NIP-44")
    try:
        return _checked(open_payload, keys, event.pubkey, event.content, event.tag("encoding"))
    except DecryptionError as error:
        raise RequestError(ErrorCode.UNDECRYPTABLE, str(error)) from error


def _private_text(payload: Payload) -> str:
    inputs = [tag for tag in payload.tags if tag[0] == "i"]
    # Plain peers write the prompt into the sealed `i` tag; `pylon/1` leaves that empty and uses the text.
    given = [tag[1] for tag in inputs if len(tag) > 1 and tag[1]]
    _check_inputs(inputs)
    if not inputs and not payload.text:
        raise RequestError(ErrorCode.MALFORMED, "a sealed request needs a text, or an i tag with its prompt")
    return payload.text or "\n".join(given)


def _open_text(event: Event) -> str:
    inputs = [tag for tag in event.tags if tag[0] == "i"]
    if not inputs:
        raise RequestError(ErrorCode.MALFORMED, "a request needs an i tag with its prompt")
    _check_inputs(inputs)
    in_content = [len(tag) > 4 and tag[4] == "content" and not tag[1] for tag in inputs]
    if sum(in_content) > 1:
        # An event could hold thousands of such tags, and each would copy a content of megabytes.
        raise RequestError(ErrorCode.MALFORMED, "more than one i tag says that its data is the content")
    return "\n".join(event.content if there else tag[1] for tag, there in zip(inputs, in_content, strict=True))


def _check_inputs(inputs: list[Tag]) -> None:
    for tag in inputs:
        if len(tag) < 2:
            raise RequestError(ErrorCode.MALFORMED, "an i tag needs its data")
        if len(tag) > 2 and tag[2] not in _INPUT_TYPES:
            # Inputs of type url, event and job would make this machine fetch what a stranger names.
            raise RequestError(ErrorCode.UNSUPPORTED_PARAM, f"inputs of type {tag[2][:20]!r} are not taken here")


def _output(tag: Tag | None) -> str:
    if tag is None:
        return "text/plain"
    # Media types ignore case and may have parameters (RFC 2045, 5.1), such as a charset. All text here is Unicode.
    output = tag[1].partition(";")[0].strip().lower()
    if output not in _OUTPUTS:
        raise RequestError(ErrorCode.UNSUPPORTED_PARAM, f"output {tag[1][:40]!r} is not made here")
    return output


def _amount(tag: Tag | None) -> Msat | None:
    return None if tag is None else _checked(_msat, tag[1])


def _account_seen(tag: Tag | None) -> AccountSeen | None:
    return None if tag is None else _checked(parse_seen, tag)


def _checked[**P, T](parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return parse(*args, **kwargs)
    except TooLargeError as error:
        raise RequestError(ErrorCode.TOO_LARGE, str(error)) from error
    except (MalformedError, MoneyError) as error:
        raise RequestError(ErrorCode.MALFORMED, str(error)) from error


def _deadline(event: Event) -> int | None:
    value = event.tag("expiration")
    if value is None:
        return None
    deadline = ends_at(value)
    if deadline is None:
        raise RequestError(ErrorCode.MALFORMED, "the expiration is not a Unix time")
    return min(deadline, event.created_at + _MAX_WAIT_S)
