"""What a provider's events mean for the request they are about."""

from pylon.jobs.answer import Address
from pylon.jobs.feedback import Feedback, Status, feedback_draft
from pylon.jobs.result import Finish, JobResult, result_draft
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.swarm.dispatch.messages import Acknowledged, Answered
from pylon.swarm.flights import Back, Flight, Flights
from pylon.swarm.wire import meaning as meanings
from pylon.swarm.wire.meaning import Partial, TakenBack, read_answer

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
    monkeypatch.setattr(meanings, "_MOST_PARTIAL", 10)
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
    assert flight.charge.begin()
    first = flight.result_id
    assert whole("two", flight) == Answered(7)
    assert flight.result is not None and (flight.result.text, flight.result_id) == ("one", first)


def cut_off(flight: Flight) -> object:
    result = JobResult(Address(REQUEST, US.public, True), 6940, "", finish=Finish.CANCELLED)
    asked = Event(REQUEST, US.public, 0, 5940, (), "", "")
    event = THEM.sign(result_draft(result, ConversationKeys(THEM), request=asked, created_at=1_000))
    return read_answer(event, flight, ConversationKeys(US))


def test_what_is_said_of_a_job_that_was_taken_back_is_no_answer_and_leaves_one_that_came_before() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0, back=Back.HERE)
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
