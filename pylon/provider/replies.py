"""Job feedback (NIP-90 kind 7000): built, signed and sent to the customer."""

from collections.abc import Callable, Sequence

from pylon import log
from pylon.clock import Clock
from pylon.errors import WireError
from pylon.jobs.answer import Address, Amount
from pylon.jobs.feedback import Feedback, Status, feedback_draft, shared_error_draft
from pylon.jobs.request import ReceivedRequest
from pylon.money.msat import Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.provider.outbox import Outbox, Publication
from pylon.provider.refusal import Refusal
from pylon.provider.refusal_budget import RefusalBudget

logger = log.get("provider")

# How long feedback is worth sending: later it helps nobody.
WORTH_SENDING_S = 60


def answer_expiry(deadline: int, now: float) -> int:
    """When relays may delete an answer, in Unix seconds: an hour after the deadline, so that a customer that was away
    still finds it."""
    return max(deadline, int(now)) + 3_600


class Replies:
    """Sends feedback. It is not journaled: if some is lost, its customer waits for its acknowledgement deadline."""

    def __init__(
        self,
        *,
        secret: SecretKey,
        keys: ConversationKeys,
        outbox: Outbox,
        clock: Clock,
        trusted: Callable[[str], bool],
    ) -> None:
        self._secret = secret
        self._keys = keys
        self._outbox = outbox
        self._clock = clock
        self._trusted = trusted
        self._budget = RefusalBudget()

    def refuse(self, refusal: Refusal) -> None:
        """Sends an error, unless this key has had too many."""
        if (event := self.refusal(refusal)) is not None:
            self._put(event, refusal.relay)

    def refusal(self, refusal: Refusal) -> Event | None:
        """The error as a signed event, not sent yet; None if this key has had too many, or is not a valid key."""
        customer = refusal.customer
        if not self._trusted(customer) and not self._budget.allow(customer, self._clock.monotonic()):
            return None
        address = Address(refusal.id, customer, refusal.private, self._expiry())
        return self._sign(Feedback(address, Status.ERROR, refusal.code, refusal.reason), plain=refusal.plain)

    def shared_refusal(self, refusals: Sequence[Refusal]) -> Event:
        """One signed error for many requests, with the code and the reason of the first. It is readable by everybody,
        and costs about as much as one that is sealed for a single customer."""
        about = [Address(refusal.id, refusal.customer, private=False) for refusal in refusals]
        now = int(self._clock.wall())
        code, reason = refusals[0].code, refusals[0].reason
        return self._secret.sign(shared_error_draft(about, code, reason, created_at=now, expiration=self._expiry()))

    def say(self, refusal: Event, relay: str, done: Callable[[bool], None] | None = None) -> None:
        """Sends an error that was made here. `done` is called with whether a relay has it."""
        self._put(refusal, relay, done)

    def processing(self, request: ReceivedRequest, relay: str, wait_s: float | None = None) -> None:
        """Tells the customer that the job begins in about `wait_s` seconds; None if that is not known."""
        self._send(Feedback(self._address(request), Status.PROCESSING, wait_s=wait_s), request, relay)

    def payment_required(self, request: ReceivedRequest, relay: str, amount: Msat, invoice: str) -> None:
        """Tells the customer that the job waits until this invoice is paid."""
        asked = Amount(amount, invoice)
        self._send(Feedback(self._address(request), Status.PAYMENT_REQUIRED, amount=asked), request, relay)

    def partial(
        self, request: ReceivedRequest, relay: str, text: str, offset: int, deadline: int, sent: Callable[[], None]
    ) -> None:
        """Sends the piece of an answer that starts at character `offset`. `sent` is called when a relay has it.

        `deadline` is the job's, in Unix seconds: relays keep the pieces of an answer as long as its result.
        """
        address = Address(request.id, request.customer, request.private, answer_expiry(deadline, self._clock.wall()))

        def done(published: bool) -> None:
            if published:
                sent()

        self._send(Feedback(address, Status.PARTIAL, text=text, offset=offset), request, relay, done)

    def _address(self, request: ReceivedRequest) -> Address:
        return Address(request.id, request.customer, request.private, self._expiry())

    def _expiry(self) -> int:
        return answer_expiry(0, self._clock.wall())

    def _send(
        self, feedback: Feedback, request: ReceivedRequest, relay: str, done: Callable[[bool], None] | None = None
    ) -> None:
        if (event := self._sign(feedback, plain=request.plain)) is not None:
            self._put(event, relay, done)

    def _sign(self, feedback: Feedback, *, plain: bool) -> Event | None:
        now = int(self._clock.wall())
        try:
            return self._secret.sign(feedback_draft(feedback, self._keys, created_at=now, plain=plain))
        except WireError as error:
            # Nothing can be encrypted for a key that is not a point of the curve.
            logger.warning("feedback could not be created", request=feedback.address.request, error=str(error))
            return None

    def _put(self, event: Event, relay: str, done: Callable[[bool], None] | None = None) -> None:
        self._outbox.put(Publication(event, relay, done, give_up_after_s=WORTH_SENDING_S))
