"""What a provider's events mean for the request they are about."""

from pylon.jobs.answer import Address
from pylon.jobs.feedback import Feedback, Status, feedback_draft
from pylon.jobs.result import Finish, JobResult, result_draft
from pylon.money.accounts.usage import Bounds
from pylon.money.msat import Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.keys import SecretKey
from pylon.swarm import flights
from pylon.swarm.dispatch.moves import Acknowledged, Answered
from pylon.swarm.flights import Flight, Flights, Partial, TakenBack, read_answer
from pylon.swarm.providers.listing import Listing
from pylon.swarm.spending.purse import Offer

US, THEM = SecretKey.generate(), SecretKey.generate()
REQUEST = "1" * 64


def said(text: str, offset: int, flight: Flight) -> object:
    feedback = Feedback(Address(REQUEST, US.public, True), Status.PARTIAL, text=text, offset=offset)
    event = THEM.sign(feedback_draft(feedback, ConversationKeys(THEM), created_at=1_000))
    return read_answer(event, flight, ConversationKeys(US))


def test_pieces_of_an_answer_are_put_together_where_they_were_asked_for() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0, stream=True)
    assert said("one ", 0, flight) == Partial(7, "one ")
    assert said("two", 4, flight) == Partial(7, "one two")
    silent = Flight(REQUEST, 5940, 0, 8, THEM.public, 1_000, 0.0)
    assert said("one ", 0, silent) == Acknowledged(8) and silent.partial == ""


def test_a_piece_that_a_relay_had_in_store_too_takes_nothing_of_the_answer_back() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0, stream=True)
    said("one ", 0, flight)
    said("two ", 4, flight)
    for text, offset in (("one ", 0), ("two ", 4)):
        assert said(text, offset, flight) == Acknowledged(7)
        assert flight.partial == "one two "
    assert said("three", 8, flight) == Partial(7, "one two three")


def test_pieces_without_end_fill_no_memory(monkeypatch) -> None:
    monkeypatch.setattr(flights, "_MOST_PARTIAL", 10)
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0, stream=True)
    for n in range(4):
        said("word ", 5 * n, flight)
    assert flight.partial == "word word "
    kept = Flights()
    kept.add(flight)
    kept.end(0)
    assert flight.partial == ""


def whole(text: str, flight: Flight) -> object:
    result = JobResult(Address(REQUEST, US.public, True), 6940, text)
    asked = Event(REQUEST, US.public, 0, 5940, (), "", "")
    event = THEM.sign(result_draft(result, ConversationKeys(THEM), request=asked, created_at=1_000))
    return read_answer(event, flight, ConversationKeys(US))


def test_the_first_of_two_results_stands_once_its_receipt_is_being_booked() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0)
    assert whole("unbooked", flight) == whole("one", flight) == Answered(7)
    flight.settled, first = True, flight.result_id
    assert whole("two", flight) == Answered(7)
    assert flight.result is not None and (flight.result.text, flight.result_id) == ("one", first)


def cut_off(flight: Flight) -> object:
    result = JobResult(Address(REQUEST, US.public, True), 6940, "", finish=Finish.CANCELLED)
    asked = Event(REQUEST, US.public, 0, 5940, (), "", "")
    event = THEM.sign(result_draft(result, ConversationKeys(THEM), request=asked, created_at=1_000))
    return read_answer(event, flight, ConversationKeys(US))


def test_what_is_said_of_a_job_that_was_taken_back_is_no_answer_and_leaves_one_that_came_before() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0, cancelled=True)
    whole = flight.result = JobResult(Address(REQUEST, US.public, True), 6940, "whole")
    meaning = cut_off(flight)
    assert isinstance(meaning, TakenBack)
    assert (meaning.attempt, meaning.result.finish) == (7, Finish.CANCELLED)
    assert flight.result is whole
    # Where nobody took it back it goes the way of all answers, and is found out there.
    assert cut_off(Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0)) == Answered(7)


def test_what_was_shown_of_an_answer_is_remembered_when_its_slot_is_over() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0, stream=True)
    kept = Flights()
    kept.add(flight)
    said("été ", 0, flight)
    kept.end(0)
    # One that was on its way.
    said("long", 4, flight)
    assert (flight.shown.characters, flight.shown.bytes) == (8, 10)


def test_an_answer_counts_for_the_customer_and_the_request_that_it_names_and_by_whom_was_asked() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0)
    out = Flights()
    out.add(flight)

    def found(by: SecretKey, request: str, customer: str) -> Flight | None:
        return out.asked(by.sign(EventDraft(6940, "", (("e", request), ("p", customer)), 1_000)), US.public)

    assert found(THEM, REQUEST, US.public) is flight
    assert found(US, REQUEST, US.public) is None
    assert found(THEM, "2" * 64, US.public) is None
    assert found(THEM, REQUEST, SecretKey.generate().public) is None


def test_what_may_have_been_charged_is_remembered_and_not_without_end(monkeypatch) -> None:
    monkeypatch.setattr(flights, "LATE", 2)
    out, price = Flights(), Msat(1_000)
    for n in range(4):
        offer = Offer(Listing(THEM.public), Bounds(1, 1), price, price)
        out.add(Flight(f"{n:064x}", 5940, n, n, THEM.public, 1_000, 0.0, offer))
    for n in range(4):
        out.end(n)
    assert [out.of_request(f"{n:064x}") is not None for n in range(4)] == [False, False, True, True]
    assert not out.awaits(f"{3:064x}")
    # Of one that lapsed, or was forgotten before, nothing is booked any more.
    for attempt in (0, 2):
        out.lapse(attempt)
    assert [out.of_request(f"{n:064x}") is not None for n in range(4)] == [False, False, False, True]


def test_what_a_budget_counts_is_remembered_beyond_that_until_it_is_known_or_lapses(monkeypatch) -> None:
    monkeypatch.setattr(flights, "LATE", 2)
    counted, price = {0, 1, 2}, Msat(1_000)
    out, made = Flights(counted.__contains__), []
    for n in range(20):
        made.append(
            Flight(
                f"{n:064x}",
                5940,
                n,
                n,
                THEM.public,
                1_000,
                0.0,
                Offer(Listing(THEM.public), Bounds(1, 1), price, price),
            )
        )
        out.add(made[-1])
        whole("long", made[-1])
        out.end(n)
    assert [out.of_request(made[n].request) is made[n] for n in counted] == [True] * 3
    assert sum(out.of_request(one.request) is not None for one in made) <= 6
    assert made[0].result is None, "nobody reads it"
    made[0].decided = True
    out.booked(made[0])
    counted.discard(1)
    out.lapse(1)
    assert [out.of_request(made[n].request) is not None for n in range(3)] == [False, False, True]


def test_a_silent_request_is_asked_after_less_and_less_often_until_something_is_heard() -> None:
    there = Flights()
    one, other = (Flight(f"{n:064x}", 5940, n, n, THEM.public, 1_000, 0.0) for n in (1, 2))
    for flight in (one, other):
        there.add(flight)
        there.went_out(flight.attempt, 100.0)
    asked: list[float] = []
    at, step = 100.0, 0.25
    while at < 130.0:
        if one in (found := there.silent(at)):
            asked.append(at)
        assert found == [] or found == [one, other]
        at += step
    # Twice as long each time, and ten seconds at most.
    assert asked == [101.0, 103.0, 107.0, 115.0, 125.0]
    there.end(other.slot)
    assert there.silent(1_000.0) == [one]
