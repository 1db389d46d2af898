"""What comes back for requests, until the deciders hear of it: settled first where money is at stake."""

from collections.abc import Callable

from pylon import log
from pylon.clock import Clock
from pylon.jobs.announcement import OfferedModel
from pylon.jobs.codes import ErrorCode
from pylon.money.msat import Msat
from pylon.nostr.event import Event
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.rescoring import Rescorer, Rescoring
from pylon.swarm.checks.verification import Verdict
from pylon.swarm.dispatch import moves as m
from pylon.swarm.flights import Flight, Flights
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.open_runs import OpenRuns
from pylon.swarm.runs.places import Command
from pylon.swarm.runs.run import Run
from pylon.swarm.spending.purse import Purse
from pylon.swarm.wire.meaning import Meaning, Partial, PaymentAsked, TakenBack, answered
from pylon.swarm.wire.settling import Settling

logger = log.get("swarm")


class Answers:
    """`tell` takes what the deciders must know, `follow` does what they command. `offered` gives the models that a
    request's provider offered; `wants_money` hears of who asks for money and was offered none.

    `rescoring` has our own model read an answer, if there is one.
    """

    def __init__(
        self,
        *,
        coordinator: Coordinator,
        runs: OpenRuns,
        flights: Flights,
        clock: Clock,
        checks: Checks | None,
        purse: Purse | None,
        rescorer: Rescorer | None,
        tell: Callable[[m.SwarmEvent], None],
        follow: Callable[[list[Command]], None],
        offered: Callable[[Flight], tuple[OfferedModel, ...]],
        wants_money: Callable[[str], None],
    ) -> None:
        self.rescoring = Rescoring(rescorer, self._scored)
        self._settling = Settling(
            purse=purse, flights=flights, tell=tell, answered=self._answered, part_paid=self._part_paid,
            is_live=coordinator.dispatcher.is_live, wants_money=wants_money, not_paid=runs.not_paid,
        )  # fmt: skip
        self._coordinator = coordinator
        self._runs = runs
        self._flights = flights
        self._clock = clock
        self._checks = checks
        self._tell = tell
        self._follow = follow
        self._offered = offered

    async def close(self) -> None:
        """Ends, once the money that is on its way has been booked."""
        await self._settling.close()
        await self.rescoring.close()

    def heard(self, event: Event, flight: Flight, meaning: Meaning) -> None:
        """An answer. Where money is at stake it is settled before the deciders hear of it."""
        match meaning:
            case PaymentAsked():
                self._settling.asked(event, flight, meaning)
            case m.Answered():
                self._settling.result(event, flight)
            case TakenBack(_, result):
                self._settling.taken_back(event, flight, result)
            case Partial(attempt, text):
                self._tell(m.Acknowledged(attempt))
                if not self._coordinator.dispatcher.is_live(attempt):
                    # It was given up, and somebody else's answer may be shown by now.
                    return
                run = self._runs.of_slot(flight.slot)
                if run is not None and run.partial is not None:
                    run.partial(text)
            case m.Acknowledged(attempt, float(wait_s)):
                # It may have lain in a relay's store for a while.
                age_s = max(0.0, self._clock.wall() - event.created_at)
                self._tell(m.Acknowledged(attempt, max(0.0, wait_s - age_s)))
            case m.Refused(attempt, ErrorCode() as code):
                flight.charge.waive()
                if code is ErrorCode.CANCELLED and flight.may_be_back:
                    # Perhaps by an earlier process: it is held against nobody.
                    meaning = m.Refused(attempt, None, ours=True)
                self._tell(meaning)
                for each in flight.attempts:
                    if self._coordinator.dispatcher.is_open(each):
                        # It was given up, and is not done: nobody charges for it.
                        self._tell(m.Charged(each, 0))
            case _:
                self._tell(meaning)

    def unheard(self, flight: Flight) -> None:
        """No relay holds a word for this request."""
        self._tell(m.Unheard(flight.attempt))

    def booked(self, request: str, charged: Msat) -> None:
        """What a request was charged, of which nobody heard when it ended."""
        flight = self._flights.of_request(request)
        if flight is None or self._coordinator.dispatcher.is_live(flight.attempt):
            # An answer that is waited for brings its receipt once more, and counts with it.
            return
        flight.charge.book(charged)
        for attempt in flight.attempts:
            self._tell(m.Charged(attempt, int(charged)))
        self._flights.booked(flight)

    def _answered(self, flight: Flight) -> None:
        if self._checks is not None:
            self._checks.examination.holds = self.rescoring.holds()
        now, run = self._clock.monotonic(), self._runs.of_slot(flight.slot)
        charged = flight.charge.added
        if run is not None:
            run.msat += charged or 0
        offered = self._offered(flight)
        answer = answered(flight, 1, now, offered)
        try:
            commands = self._coordinator.answered(
                flight.slot, flight.attempt, answer, now, self._clock.wall(), charged=charged, offered=offered
            )
        except Exception as error:
            self._lose(run, error)
        else:
            self._follow(commands)
        if charged is not None and self._coordinator.dispatcher.is_open(flight.attempt):
            # Its slot, or its run, was over, or what came was no good.
            self._tell(m.Charged(flight.attempt, charged))
        self._also(flight)

    def _part_paid(self, flight: Flight) -> None:
        """What was sent of an answer that was taken back is in the books, or what was taken without a receipt. It is
        nobody's answer."""
        charged = flight.charge.added or 0
        if (run := self._runs.of_slot(flight.slot)) is not None:
            run.msat += charged
        # One that an earlier process took back, and whose answer this one waits for.
        self._tell(m.Refused(flight.attempt, None, ours=True))
        if flight.charge.is_known or flight.offer is None:
            self._tell(m.Charged(flight.attempt, charged))
        self._also(flight)

    def _also(self, flight: Flight) -> None:
        """Other budgets count it too."""
        for attempt in flight.also if flight.charge.is_known else ():
            self._tell(m.Charged(attempt, int(flight.charge.paid)))

    def _scored(self, slot: int, verdict: Verdict) -> None:
        try:
            commands = self._coordinator.scored(slot, verdict, self._clock.monotonic(), self._clock.wall())
        except Exception as error:
            self._lose(self._runs.of_slot(slot), error)
        else:
            self._follow(commands)

    def _lose(self, run: Run | None, error: Exception) -> None:
        """Ends the run of an answer over which the deciders broke: nobody can say what has become of its place."""
        logger.error("an answer could not be dealt with", exc_info=error)
        self._runs.lose(run, error)
