"""What a provider's event means for the request that it answers, and the `Answer` that is made of a result.

Nothing here decides: `Answers` acts on a meaning, and tells the deciders.
"""

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
from pylon.swarm.dispatch.messages import Acknowledged, Answered, Refused
from pylon.swarm.flights import Flight
from pylon.swarm.job import Answer

# How many characters of a streamed answer are shown: more than an event can hold.
_MOST_PARTIAL = 1_000_000


@dataclass(frozen=True, slots=True)
class PaymentAsked:
    """The provider wants to be paid before it does the job."""

    attempt: int
    amount: Amount | None


@dataclass(frozen=True, slots=True)
class Partial:
    """What has come of a streamed answer so far."""

    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The provider was told to stop, and says what it had sent of the answer: no answer, but it may be charged."""

    attempt: int
    result: JobResult


type Meaning = Acknowledged | Answered | Refused | PaymentAsked | Partial | TakenBack


def read_answer(event: Event, flight: Flight, keys: ConversationKeys) -> Meaning | None:
    """What a provider's event means for its attempt; None when that is nothing. A result is kept in `flight.result`.

    An event that cannot be read counts as a failure of its provider, since it answers our request.
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
            # After a lost piece there is a gap: the next ones are not shown, and come with the whole answer. A piece
            # that is known already came by push, and was found again by a look.
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
                # While a result's receipt is being booked that result stays: the receipt was signed for its text.
                flight.result, flight.result_id = result, event.id
            return Answered(flight.attempt)
    except (MalformedError, DecryptionError, TooLargeError):
        return Refused(flight.attempt, None)
    return None


def answer_of(flight: Flight, now: float, offered: Iterable[OfferedModel]) -> Answer:
    """The answer in a flight's result. `offered` are the models of its provider; `now` is monotonic seconds.

    Raises `ValueError` when there is no result.
    """
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
        # Of this request; `Piece.fill` counts the others.
        attempts=1,
        request_id=flight.request,
        result_id=flight.result_id,
        paid=flight.charge.paid,
        verified=("signature", "receipt") if flight.charge.is_known else ("signature",),
        max_completion_tokens=next(filter(None, longest), 0),
    )
