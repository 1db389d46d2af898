"""What a provider's event means for the request that it is about, and the answer that a request brought."""

from collections.abc import Iterable
from dataclasses import dataclass

from pylon.errors import DecryptionError, MalformedError, TooLargeError
from pylon.jobs.announcement import OfferedModel
from pylon.jobs.answer import Amount
from pylon.jobs.feedback import Status, parse_feedback
from pylon.jobs.kinds import FEEDBACK, result_kind
from pylon.jobs.result import Finish, JobResult, parse_result
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.swarm.dispatch.moves import Acknowledged, Answered, Refused
from pylon.swarm.flights import Flight
from pylon.swarm.job import Answer

# Characters of an answer that are shown while it is made: more than any answer has that an event can hold.
_MOST_PARTIAL = 1_000_000


@dataclass(frozen=True, slots=True)
class PaymentAsked:
    """The provider waits for a payment before it does the job."""

    attempt: int
    amount: Amount | None


@dataclass(frozen=True, slots=True)
class Partial:
    """The answer so far."""

    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The provider was told to stop, and says what it had sent of the answer by then: no answer, but it may cost."""

    attempt: int
    result: JobResult


type Meaning = Acknowledged | Answered | Refused | PaymentAsked | Partial | TakenBack


def read_answer(event: Event, flight: Flight, keys: ConversationKeys) -> Meaning | None:
    """What a provider's event means for its attempt. An answer is kept in `flight.result`.

    Something that cannot be read counts as a failure of its provider: it knew the request and wrote this.
    """
    try:
        if event.kind == FEEDBACK:
            feedback = parse_feedback(event, keys)
            if feedback.status is Status.ERROR:
                return Refused(flight.attempt, feedback.code)
            if feedback.status is Status.PAYMENT_REQUIRED:
                return PaymentAsked(flight.attempt, feedback.amount)
            offset = feedback.offset or 0
            if feedback.status is Status.PARTIAL and flight.stream:
                flight.shown = flight.shown.and_then(offset, feedback.text)
            # A piece that was lost leaves a gap; what comes after it is in the answer. One that is known already was
            # pushed, and is found again in a relay's store.
            known = flight.partial.startswith(feedback.text, offset)
            if feedback.status is Status.PARTIAL and flight.stream and offset <= len(flight.partial) and not known:
                flight.partial = (flight.partial[:offset] + feedback.text)[:_MOST_PARTIAL]
                return Partial(flight.attempt, flight.partial)
            return Acknowledged(flight.attempt, feedback.wait_s)
        if event.kind == result_kind(flight.kind):
            result = parse_result(event, keys)
            if result.finish is Finish.CANCELLED and flight.may_be_back:
                return TakenBack(flight.attempt, result)
            if not flight.charge.is_settled:
                # Once its receipt is being booked the first stands: another text is not what that was signed with.
                flight.result, flight.result_id = result, event.id
            return Answered(flight.attempt)
    except (MalformedError, DecryptionError, TooLargeError):
        return Refused(flight.attempt, None)
    return None


def answer_of(flight: Flight, attempts: int, now: float, offered: Iterable[OfferedModel] = ()) -> Answer:
    """What a request that was answered brought, from one of the models that its provider `offered`."""
    result = flight.result
    if result is None:
        raise ValueError("this request has no result")
    model, timing = result.model, result.timing
    named = () if model is None else (model.id, model.sha256)
    longest = (one.max_completion_tokens for one in offered if (one.id, one.sha256) == named)
    return Answer(
        text=result.text,
        provider=flight.provider,
        model="" if model is None else model.id,
        sha256="" if model is None else model.sha256,
        usage=result.usage,
        finish=result.finish,
        queue_ms=0 if timing is None else timing.queue_ms,
        run_ms=0 if timing is None else timing.run_ms,
        latency_ms=round(1_000 * (now - flight.sent_at + flight.age_s)),
        attempts=attempts,
        request_id=flight.request,
        result_id=flight.result_id,
        paid=flight.charge.paid,
        verified=("signature", "receipt") if flight.charge.is_known else ("signature",),
        max_completion_tokens=next(filter(None, longest), 0),
    )
