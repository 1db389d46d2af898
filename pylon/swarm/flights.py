"""Flights: requests that were published, found by event id when an answer comes, and looked up when none does.

Relays lose live events, so relays are asked for stored answers to a silent request: one second after it was
published, then at growing intervals. The second look falls before the acknowledgement deadline, so that a job whose
answer was merely not pushed is not sent twice; and after the provider should have said something, so that a relay
without a word from it has most likely lost the request.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.kinds import FEEDBACK
from pylon.jobs.request import is_sealed
from pylon.jobs.result import JobResult
from pylon.nostr.event import Event
from pylon.swarm.spending.charge import Charge
from pylon.swarm.spending.purse import Offer
from pylon.swarm.spending.shown import NOTHING, Shown

FIRST_LOOK_S = 1.0
# Seconds. A provider whose result takes longer than 2.5 s says so by then, and that takes a while to arrive.
WORD_DUE_S = 2.9
MOST_S = 10.0
# How many flights are kept that are not waited for and that no budget counts.
LATE = 10_000


class Back(StrEnum):
    """Whether a request was taken back."""

    NO = "no"
    HERE = "by this process"
    PERHAPS = "an earlier process sent it, and may have"
    BEFORE = "by an earlier process: no answer comes but one that relays have by now"


@dataclass(slots=True)
class Flight:
    """One request: what was asked of whom. `sent_at` is monotonic, `created_at` Unix seconds."""

    request: str
    kind: int
    slot: int
    attempt: int
    provider: str
    created_at: int
    sent_at: float
    offer: Offer | None = None
    result: JobResult | None = None
    result_id: str = ""
    charge: Charge = field(default_factory=Charge)
    # Whether its answer is wanted while it is made, and what has come of it so far.
    stream: bool = False
    partial: str = ""
    # How much of it has come without a gap.
    shown: Shown = NOTHING
    back: Back = Back.NO
    # The journal of its run, for a process that takes the run up.
    journal: "Written | None" = None
    # Whether anything came from its provider.
    heard: bool = False
    # The one relay that it went over, and the event, as long as it may be sent again over another relay.
    relay: str | None = None
    event: Event | None = None
    repeated: bool = False
    # The models that its provider announced when it was sent.
    offered: tuple[OfferedModel, ...] = ()
    # How many seconds before `sent_at` an earlier process sent it.
    age_s: float = 0.0
    # Attempts of other calls whose budgets count this request too, as its run was taken up meanwhile.
    also: tuple[int, ...] = ()

    def is_lost(self, asked_at: float) -> bool:
        """Whether no answer is to be expected, given all that relays held when they were asked at `asked_at`."""
        if self.back is Back.BEFORE:
            return self.result is None and not self.charge.is_settled
        return not self.heard and asked_at - self.sent_at >= WORD_DUE_S

    @property
    def may_be_back(self) -> bool:
        """Whether its provider was told to stop, or may have been."""
        return self.back is not Back.NO

    def take_back(self) -> None:
        """Its provider is told to stop."""
        if self.back is not Back.BEFORE:
            self.back = Back.HERE

    @property
    def attempts(self) -> tuple[int, ...]:
        """All attempts whose budgets count it."""
        return (self.attempt, *self.also)


class Written(Protocol):
    """Where a request is written down: `RunJournal`."""

    def taken_back(self, request: str) -> None: ...


class Flights:
    """See the module. `claimed` says whether a budget has an open claim for an attempt."""

    def __init__(self, claimed: Callable[[int], bool] = lambda _: False) -> None:
        self._claimed = claimed
        self._by_request: dict[str, Flight] = {}
        self._by_attempt: dict[int, Flight] = {}
        self._by_slot: dict[int, list[Flight]] = {}
        self._looks: list[tuple[float, int, float]] = []
        # Flights that are not waited for but may still be charged: their receipts belong to the account. The oldest
        # come first.
        self._late: dict[str, Flight] = {}
        self._late_attempts: dict[int, str] = {}
        self._sweep_above = LATE

    def __len__(self) -> int:
        return len(self._by_request)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._by_request.values())

    def add(self, flight: Flight) -> None:
        """Adds a request that is about to be published, or that an earlier call sent."""
        if (earlier := self._late.get(flight.request)) is not None:
            self._forget(earlier)
            flight.also += earlier.attempts
        self._by_request[flight.request] = flight
        self._by_attempt[flight.attempt] = flight
        self._by_slot.setdefault(flight.slot, []).append(flight)

    def went_out(self, attempt: int, now: float) -> None:
        """A relay has the request: looks for its answer begin."""
        flight = self._by_attempt.get(attempt)
        if flight is not None:
            flight.sent_at = now
            heapq.heappush(self._looks, (now + FIRST_LOOK_S, attempt, FIRST_LOOK_S))

    def awaits(self, request: str) -> bool:
        """Whether the answer to this request is waited for by a slot."""
        return request in self._by_request

    def of_request(self, request: str) -> Flight | None:
        """The flight of a request, including one that is not waited for but may still be charged."""
        return self._by_request.get(request) or self._late.get(request)

    def of_attempt(self, attempt: int) -> Flight | None:
        """The flight of an attempt that is waited for."""
        return self._by_attempt.get(attempt)

    def of_slot(self, slot: int) -> list[Flight]:
        """The flights of an open slot."""
        return self._by_slot.get(slot, [])

    def end(self, slot: int) -> None:
        """The slot has its outcome. Flights that may still be charged are kept."""
        for flight in self._by_slot.pop(slot, ()):
            del self._by_request[flight.request]
            del self._by_attempt[flight.attempt]
            flight.partial, flight.event = "", None
            if flight.offer is None or not flight.offer.quote or flight.charge.is_known:
                continue
            if not flight.charge.is_settled:
                # Another copy of the result may be booked, and brings all that needs.
                flight.result = None
            self._keep(flight)
            if len(self._late) > self._sweep_above:
                self._sweep()

    def booked(self, flight: Flight) -> None:
        """Its receipt is booked: drops the result, and the flight itself if its slot is over and its cost known."""
        flight.result = None
        if flight.charge.is_known and flight.request in self._late:
            self._forget(flight)

    def lapse(self, attempt: int) -> None:
        """Receipts for this attempt are not booked any more. Its flight goes, unless another budget counts it."""
        flight = self._late.get(self._late_attempts.get(attempt, ""))
        if flight is not None and not any(map(self._claimed, flight.attempts)):
            self._forget(flight)

    def owe(self, flight: Flight) -> None:
        """Adds a request of an earlier call that is not waited for, but that a budget counts."""
        known = self.of_request(flight.request)
        if known is None:
            self._keep(flight)
        else:
            known.also += flight.attempts
            if known.request in self._late:
                self._keep(known)

    def _keep(self, flight: Flight) -> None:
        self._late[flight.request] = flight
        self._late_attempts |= dict.fromkeys(flight.attempts, flight.request)

    def _forget(self, flight: Flight) -> None:
        del self._late[flight.request]
        for attempt in flight.attempts:
            self._late_attempts.pop(attempt, None)

    def _sweep(self) -> None:
        """Drops the oldest flights that no budget counts. The others are bounded by the budgets, and lapse."""
        uncounted = [flight for flight in self._late.values() if not any(map(self._claimed, flight.attempts))]
        for flight in uncounted[: max(0, len(uncounted) - LATE // 2)]:
            self._forget(flight)
        self._sweep_above = max(LATE, len(self._late) + LATE // 2)

    def silent(self, now: float) -> list[Flight]:
        """The flights whose answers relays are to be asked for now."""
        found: list[Flight] = []
        while self._looks and self._looks[0][0] <= now:
            _, attempt, waited = heapq.heappop(self._looks)
            flight = self._by_attempt.get(attempt)
            if flight is not None:
                found.append(flight)
                wait = min(2 * waited, MOST_S)
                heapq.heappush(self._looks, (now + wait, attempt, wait))
        return found

    def asked(self, event: Event, customer: str) -> list[Flight]:
        """The flights that this event answers, if it is by the provider that was asked, and to us.

        Open feedback may answer several requests: in a flood a provider refuses many at once.
        """
        if event.kind == FEEDBACK and not is_sealed(event):
            requests, ours = list(event.tag_values("e")), customer in event.tag_values("p")
        else:
            requests, ours = [event.tag("e") or ""], event.tag("p") == customer
        found = [self.of_request(request) for request in dict.fromkeys(requests)] if ours else []
        return [flight for flight in found if flight is not None and flight.provider == event.pubkey]
