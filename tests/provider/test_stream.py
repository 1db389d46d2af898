"""An answer in pieces: what is sent of it, and what of that is written down."""

from types import SimpleNamespace

import pytest

from pylon.inference.engine import Progress
from pylon.money.accounts.usage import Usage
from pylon.provider.work.stream import PARTIAL_EVERY_S, Stream
from tests.manual_clock import ManualClock


class Sent:
    """A stand-in for replies and journal, that keeps what both are given. Relays have a piece when a test says so."""

    def __init__(self, quote: int) -> None:
        self.pieces, self.taken, self.written = [], [], []
        self.clock = ManualClock()
        terms = SimpleNamespace(quote=quote, expires_at=77)
        job = SimpleNamespace(id="job", request="request", relay="ws://r", terms=terms)
        journal = SimpleNamespace(sent=lambda *what: self.written.append(what))
        self.stream = Stream(job, journal=journal, replies=self, clock=self.clock)

    def partial(self, request, relay, text, offset, deadline, sent) -> None:
        assert (request, relay, deadline) == ("request", "ws://r", 77)
        self.pieces.append((offset, text))
        self.taken.append(sent)

    def goes_on(self, text: str, tokens: int, *, after: float = PARTIAL_EVERY_S) -> bool:
        self.clock.advance(after)
        return self.stream.goes_on(Progress("job", text, tokens, 5))


@pytest.fixture
def sent():
    return Sent(quote=1_000)


def test_each_piece_begins_where_the_one_before_ended_and_whether_there_is_one_is_said(sent):
    assert sent.goes_on("once", 1)
    assert not sent.goes_on("once upon", 2, after=PARTIAL_EVERY_S / 2)
    assert not sent.goes_on("once", 2)
    assert sent.goes_on("once upon", 2)
    assert sent.pieces == [(0, "once"), (4, " upon")]


def test_what_relays_have_counts_and_what_is_on_its_way_does_not(sent):
    sent.goes_on("once", 1)
    sent.goes_on("once upon", 2)
    assert sent.stream.sent is None and sent.written == []
    sent.taken[0]()
    assert sent.stream.sent == Usage(5, 1)
    sent.taken[1]()
    assert sent.written == [("job", Usage(5, 1)), ("job", Usage(5, 2))]


def test_a_piece_that_arrives_before_the_one_in_front_of_it_counts_with_that_one(sent):
    sent.goes_on("once", 1)
    sent.goes_on("once upon", 2)
    sent.taken[1]()
    assert sent.stream.sent is None and sent.written == []
    sent.taken[0]()
    assert sent.stream.sent == Usage(5, 2)
    assert sent.written == [("job", Usage(5, 2))]


def test_what_counts_already_is_not_written_down_again(sent):
    for tokens, text in enumerate(("once", "once upon", "once upon a"), start=1):
        sent.goes_on(text, tokens)
    sent.taken[0]()
    sent.taken[2]()
    assert sent.written == [("job", Usage(5, 1))]


def test_of_what_costs_nothing_nothing_is_written_down():
    free = Sent(quote=0)
    free.goes_on("once", 1)
    free.taken[0]()
    assert free.stream.sent == Usage(5, 1) and free.written == []
