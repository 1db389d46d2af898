"""What a provider says to a customer besides results: feedback, built, signed and sent."""

from collections.abc import Callable

from pylon import log
from pylon.clock import Clock
from pylon.errors import WireError
from pylon.jobs.answer import Address, Amount
from pylon.jobs.feedback import Feedback, Status, feedback_draft
from pylon.jobs.request import ReceivedRequest
from pylon.money.msat import Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.provider.outbox import Letter, Outbox
from pylon.provider.refusal import Refusal
from pylon.provider.refusal_budget import RefusalBudget

logger = log.get("provider")

# Feedback that arrives later than this helps nobody.
WORTH_SENDING_S = 60


def answer_expiry(deadline: int, now: float) -> int:
    """When relays may forget an answer: an hour after the job's deadline, so that a customer can come back."""
    return max(deadline, int(now)) + 3_600


class Replies:
    """What goes out here is in no journal: a lost word delays its customer until the acknowledgement deadline."""

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
        """An error feedback, unless this key has had too many."""
        if (event := self.refusal(refusal)) is not None:
            self._put(event, refusal.relay)

    def refusal(self, refusal: Refusal) -> Event | None:
        """The same, not sent yet; None where this key has had too many, or cannot be written to."""
        customer = refusal.customer
        if not self._trusted(customer) and not self._budget.allow(customer, self._clock.monotonic()):
            return None
        address = Address(refusal.id, customer, refusal.private, self._expiry())
        return self._sign(Feedback(address, Status.ERROR, refusal.code, refusal.reason), plain=refusal.plain)

    def say(self, refusal: Event, relay: str) -> None:
        """Sends one that was made."""
        self._put(refusal, relay)

    def processing(self, request: ReceivedRequest, relay: str, wait_s: float | None = None) -> None:
        """The job will take a while: it begins in so many seconds, or nobody knows when."""
        self._send(Feedback(self._address(request), Status.PROCESSING, wait_s=wait_s), request, relay)

    def payment_required(self, request: ReceivedRequest, relay: str, amount: Msat, invoice: str) -> None:
        """The job waits until this invoice is paid."""
        asked = Amount(amount, invoice)
        self._send(Feedback(self._address(request), Status.PAYMENT_REQUIRED, amount=asked), request, relay)

    def partial(
        self, request: ReceivedRequest, relay: str, text: str, offset: int, deadline: int, sent: Callable[[], None]
    ) -> None:
        """The piece of the answer that starts at character `offset`. `sent` is called when a relay has it.

        `deadline` is the job's: the pieces of an answer are kept as long as its result.
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
            # A key that is no point of the curve cannot be written to.
            logger.warning("feedback could not be created", request=feedback.address.request, error=str(error))
            return None

    def _put(self, event: Event, relay: str, done: Callable[[bool], None] | None = None) -> None:
        self._outbox.put(Letter(event, relay, done, worth_s=WORTH_SENDING_S))
