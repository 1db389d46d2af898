"""What a provider says besides results."""

from pylon.clock import SystemClock
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import Status, parse_feedback
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.msat import Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import expiration
from pylon.nostr.keys import SecretKey
from pylon.provider.outbox import Publication
from pylon.provider.refusal import Refusal
from pylon.provider.replies import Replies, answer_expiry

US, CUSTOMER = SecretKey(bytes(31) + b"\x07"), SecretKey(bytes(31) + b"\x08")


class Outbox:
    """A stand-in that keeps what it is given."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []

    def put(self, publication: Publication) -> None:
        self.publications.append(publication)


def test_a_piece_counts_as_sent_when_a_relay_has_it_and_is_kept_as_long_as_its_result() -> None:
    outbox, sent, clock = Outbox(), [], SystemClock()
    replies = Replies(secret=US, keys=ConversationKeys(US), outbox=outbox, clock=clock, trusted=lambda _: False)
    request = ReceivedRequest("1" * 64, CUSTOMER.public, 0, JobRequest("x"), True, (US.public,))
    deadline = int(clock.wall()) + 900
    replies.partial(request, "ws://r", "a piece", 3, deadline, lambda: sent.append("sent"))
    [publication] = outbox.publications
    feedback = parse_feedback(publication.event, ConversationKeys(CUSTOMER))
    assert (feedback.status, feedback.text, feedback.offset) == (Status.PARTIAL, "a piece", 3)
    assert expiration(publication.event) == answer_expiry(deadline, clock.wall())
    assert publication.done is not None
    publication.done(False)
    assert sent == []
    publication.done(True)
    assert sent == ["sent"]


def test_whoever_knows_nip_90_alone_sees_the_status_of_a_sealed_job_outside() -> None:
    outbox = Outbox()
    keys = ConversationKeys(US)
    replies = Replies(secret=US, keys=keys, outbox=outbox, clock=SystemClock(), trusted=lambda _: False)
    request = ReceivedRequest("1" * 64, CUSTOMER.public, 0, JobRequest("x"), True, (US.public,), plain=True)
    replies.processing(request, "ws://r", 2.0)
    replies.payment_required(request, "ws://r", Msat(1_000), "lnbcrt1")
    replies.partial(request, "ws://r", "a piece", 3, 0, lambda: None)
    replies.refuse(Refusal.to(request, "ws://r", ErrorCode.BUSY, "many wait here"))
    events = [publication.event for publication in outbox.publications]
    assert [event.tag("status") for event in events] == ["processing", "payment-required", "partial", "error"]
    assert [event.tag("amount") for event in events] == [None, "1000", None, None]
    texts = [ConversationKeys(CUSTOMER).decrypt(US.public, event.content) for event in events if event.content]
    assert texts == [b"a piece", b"many wait here"]
