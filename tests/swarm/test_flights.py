"""Requests that are out, and those that may still be charged."""

from pylon.jobs.answer import Address
from pylon.jobs.result import JobResult
from pylon.money.accounts.usage import Bounds
from pylon.money.msat import Msat
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.swarm import flights
from pylon.swarm.flights import Back, Flight, Flights
from pylon.swarm.providers.listing import Listing
from pylon.swarm.spending.purse import Offer

US, THEM = SecretKey.generate(), SecretKey.generate()
REQUEST = "1" * 64


def test_an_answer_counts_for_the_customer_and_the_request_that_it_names_and_by_whom_was_asked() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0)
    out = Flights()
    out.add(flight)

    def found(by: SecretKey, request: str, customer: str) -> list[Flight]:
        return out.asked(by.sign(EventDraft(6940, "", (("e", request), ("p", customer)), 1_000)), US.public)

    assert found(THEM, REQUEST, US.public) == [flight]
    assert found(US, REQUEST, US.public) == []
    assert found(THEM, "2" * 64, US.public) == []
    assert found(THEM, REQUEST, SecretKey.generate().public) == []


def test_an_open_error_counts_for_every_request_that_it_names_and_a_result_for_its_first_alone() -> None:
    out, named = Flights(), [f"{n:064x}" for n in range(3)]
    all_flights = [Flight(request, 5940, n, n, THEM.public, 1_000, 0.0) for n, request in enumerate(named)]
    for flight in all_flights[:2]:
        out.add(flight)
    tags = (*(("e", request) for request in named), ("p", "5" * 64), ("p", US.public))
    shared = THEM.sign(EventDraft(7000, "", (*tags, ("status", "error", "busy")), 1_000))
    assert out.asked(shared, US.public) == all_flights[:2]
    assert out.asked(shared, "6" * 64) == []
    ours = (("p", US.public), *tags)
    assert out.asked(THEM.sign(EventDraft(6940, "", ours, 1_000)), US.public) == all_flights[:1]
    assert out.asked(THEM.sign(EventDraft(7000, "", (*ours, ("encrypted",)), 1_000)), US.public) == all_flights[:1]
    assert out.asked(US.sign(EventDraft(7000, "", tags, 1_000)), US.public) == []


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
        made[-1].result = JobResult(Address(made[-1].request, US.public, True), 6940, "long")
        out.end(n)
    assert [out.of_request(made[n].request) is made[n] for n in counted] == [True] * 3
    assert sum(out.of_request(one.request) is not None for one in made) <= 6
    assert made[0].result is None, "nobody reads it"
    made[0].charge.book(price)
    out.booked(made[0])
    counted.discard(1)
    out.lapse(1)
    assert [out.of_request(made[n].request) is not None for n in range(3)] == [False, False, True]


def test_what_an_earlier_process_took_back_is_looked_for_once_and_what_it_may_have_is_waited_for() -> None:
    lost: list[bool] = []
    for back in (Back.BEFORE, Back.PERHAPS, Back.NO):
        flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 0.0, back=back)
        assert flight.may_be_back is (back is not Back.NO)
        flight.take_back()
        assert flight.may_be_back
        lost.append(flight.is_lost(1.0))
    assert lost == [True, False, False]


def test_a_request_is_lost_once_its_provider_should_have_said_something_and_has_not() -> None:
    flight = Flight(REQUEST, 5940, 0, 7, THEM.public, 1_000, 100.0)
    at = (100.0 + flights.WORD_DUE_S - 0.1, 100.0 + flights.WORD_DUE_S)
    assert [flight.is_lost(asked_at) for asked_at in at] == [False, True]
    flight.heard = True
    assert [flight.is_lost(asked_at) for asked_at in at] == [False, False]


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
