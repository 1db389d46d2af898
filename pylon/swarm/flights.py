"""Requests that are out: found by event id when an answer comes, and asked after when none does.

Relays lose live events, so a silent request is looked up in what they have stored: one second after it went out,
then at growing intervals. The second look falls before the acknowledgement deadline, so that an answer that only
the push lost is not asked for twice; and after the moment at which its provider owed a word, so that a relay without
one has most likely lost the request.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.result import JobResult
from pylon.nostr.event import Event
from pylon.swarm.spending.charge import Charge
from pylon.swarm.spending.purse import Offer
from pylon.swarm.spending.shown import NOTHING, Shown

FIRST_LOOK_S = 1.0
# A provider whose result takes longer than two and a half seconds says so by then, and that takes a while to arrive.
WORD_DUE_S = 2.9
MOST_S = 10.0
# Of flights that nobody waits for, and that no budget counts, so many are kept.
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
    # How much of it came, from its beginning without a gap, in characters and in bytes.
    shown: Shown = NOTHING
    back: Back = Back.NO
    # Where it is written down, so that whoever takes its run up knows what became of it.
    journal: "Written | None" = None
    # Anything at all came from its provider.
    heard: bool = False
    # The relay that it went over, if it was one, and what went, as long as it may be sent again over another.
    relay: str | None = None
    event: Event | None = None
    repeated: bool = False
    # The models that its provider offered when it was sent.
    offered: tuple[OfferedModel, ...] = ()
    # Seconds before `sent_at` that an earlier process sent it.
    age_s: float = 0.0
    # Attempts of other calls whose budgets count this request too: the run was taken up while they did.
    also: tuple[int, ...] = ()

    def is_lost(self, asked_at: float) -> bool:
        """Whether nothing is to be waited for, where relays were asked then for what they hold and this is all."""
        if self.back is Back.BEFORE:
            return self.result is None and not self.charge.is_settled
        return not self.heard and asked_at - self.sent_at >= WORD_DUE_S

    @property
    def may_be_back(self) -> bool:
        """Whether it was taken back, or may have been."""
        return self.back is not Back.NO

    def take_back(self) -> None:
        """Nobody wants it any more."""
        if self.back is not Back.BEFORE:
            self.back = Back.HERE

    @property
    def attempts(self) -> tuple[int, ...]:
        """All that it is charged to."""
        return (self.attempt, *self.also)


class Written(Protocol):
    """Where a request is written down: `RunJournal`."""

    def taken_back(self, request: str) -> None: ...


class Flights:
    """`claimed` says of an attempt whether a budget waits to know what it is charged."""

    def __init__(self, claimed: Callable[[int], bool] = lambda _: False) -> None:
        self._claimed = claimed
        self._by_request: dict[str, Flight] = {}
        self._by_attempt: dict[int, Flight] = {}
        self._by_slot: dict[int, list[Flight]] = {}
        self._looks: list[tuple[float, int, float]] = []
        # Nobody waits for these any more, but they may have been charged: their receipts belong to the account. The
        # oldest come first.
        self._late: dict[str, Flight] = {}
        self._late_attempts: dict[int, str] = {}
        self._sweep_above = LATE

    def __len__(self) -> int:
        return len(self._by_request)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._by_request.values())

    def add(self, flight: Flight) -> None:
        """A request that is about to go out, or that an earlier call sent."""
        if (earlier := self._late.get(flight.request)) is not None:
            self._forget(earlier)
            flight.also += earlier.attempts
        self._by_request[flight.request] = flight
        self._by_attempt[flight.attempt] = flight
        self._by_slot.setdefault(flight.slot, []).append(flight)

    def went_out(self, attempt: int, now: float) -> None:
        """A relay has it: its time begins."""
        flight = self._by_attempt.get(attempt)
        if flight is not None:
            flight.sent_at = now
            heapq.heappush(self._looks, (now + FIRST_LOOK_S, attempt, FIRST_LOOK_S))

    def awaits(self, request: str) -> bool:
        """Whether its answer is waited for by a slot."""
        return request in self._by_request

    def of_request(self, request: str) -> Flight | None:
        """The flight of a request, also of one that nobody waits for any more but that may have been charged."""
        return self._by_request.get(request) or self._late.get(request)

    def of_attempt(self, attempt: int) -> Flight | None:
        return self._by_attempt.get(attempt)

    def of_slot(self, slot: int) -> list[Flight]:
        return self._by_slot.get(slot, [])

    def end(self, slot: int) -> None:
        """The slot has its outcome."""
        for flight in self._by_slot.pop(slot, ()):
            del self._by_request[flight.request]
            del self._by_attempt[flight.attempt]
            flight.partial, flight.event = "", None
            if flight.offer is None or not flight.offer.quote or flight.charge.is_known:
                continue
            if not flight.charge.is_settled:
                # A copy of it may be booked, and brings what that needs.
                flight.result = None
            self._keep(flight)
            if len(self._late) > self._sweep_above:
                self._sweep()

    def booked(self, flight: Flight) -> None:
        """Nobody reads its answer any more. Once its slot is over, nothing more is waited for where it is known what
        it cost."""
        flight.result = None
        if flight.charge.is_known and flight.request in self._late:
            self._forget(flight)

    def lapse(self, attempt: int) -> None:
        """Nothing that comes for it is booked any more."""
        flight = self._late.get(self._late_attempts.get(attempt, ""))
        if flight is not None and not any(map(self._claimed, flight.attempts)):
            self._forget(flight)

    def owe(self, flight: Flight) -> None:
        """A request of an earlier call's that nobody waits for, and that a budget counts."""
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
        """The oldest that no budget counts make room. Of the others there are as many as budgets pay for, and they
        lapse."""
        uncounted = [flight for flight in self._late.values() if not any(map(self._claimed, flight.attempts))]
        for flight in uncounted[: max(0, len(uncounted) - LATE // 2)]:
            self._forget(flight)
        self._sweep_above = max(LATE, len(self._late) + LATE // 2)

    def silent(self, now: float) -> list[Flight]:
        """Those that are to be asked after now."""
        found: list[Flight] = []
        while self._looks and self._looks[0][0] <= now:
            _, attempt, waited = heapq.heappop(self._looks)
            flight = self._by_attempt.get(attempt)
            if flight is not None:
                found.append(flight)
                wait = min(2 * waited, MOST_S)
                heapq.heappush(self._looks, (now + wait, attempt, wait))
        return found

    def asked(self, event: Event, customer: str) -> Flight | None:
        """The request that this event answers: ours, and written by the provider that was asked."""
        flight = self.of_request(event.tag("e") or "")
        if flight is None or event.pubkey != flight.provider or event.tag("p") != customer:
            return None
        return flight
