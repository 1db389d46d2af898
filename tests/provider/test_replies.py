"""What a provider says besides results."""

from pylon.clock import SystemClock
from pylon.jobs.feedback import Status, parse_feedback
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import expiration
from pylon.nostr.keys import SecretKey
from pylon.provider.outbox import Letter
from pylon.provider.replies import Replies, answer_expiry

US, CUSTOMER = SecretKey(bytes(31) + b"\x07"), SecretKey(bytes(31) + b"\x08")


class Outbox:
    """A stand-in that keeps what it is given."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    def put(self, letter: Letter) -> None:
        self.letters.append(letter)


def test_a_piece_counts_as_sent_when_a_relay_has_it_and_is_kept_as_long_as_its_result() -> None:
    outbox, sent, clock = Outbox(), [], SystemClock()
    replies = Replies(secret=US, keys=ConversationKeys(US), outbox=outbox, clock=clock, trusted=lambda _: False)
    request = ReceivedRequest("1" * 64, CUSTOMER.public, 0, JobRequest("x"), True, (US.public,))
    deadline = int(clock.wall()) + 900
    replies.partial(request, "ws://r", "a piece", 3, deadline, lambda: sent.append("sent"))
    [letter] = outbox.letters
    feedback = parse_feedback(letter.event, ConversationKeys(CUSTOMER))
    assert (feedback.status, feedback.text, feedback.offset) == (Status.PARTIAL, "a piece", 3)
    assert expiration(letter.event) == answer_expiry(deadline, clock.wall())
    assert letter.done is not None
    letter.done(False)
    assert sent == []
    letter.done(True)
    assert sent == ["sent"]
