"""Acts on what providers' events mean: answers are settled where they cost money, then the deciders hear of them.

`Inbox` brings events and their meanings, `Settling` pays and books, `Deciders` decide.
"""

from pylon import log
from pylon.clock import Clock
from pylon.jobs.announcement import OfferedModel
from pylon.jobs.codes import ErrorCode
from pylon.money.msat import Msat
from pylon.nostr.event import Event
from pylon.swarm.checks.rescoring import Rescorer, Rescoring
from pylon.swarm.checks.verification import Verdict
from pylon.swarm.dispatch import messages as m
from pylon.swarm.flights import Flight, Flights
from pylon.swarm.job import FailureDetail
from pylon.swarm.outlook import Outlook
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.runs.open_runs import OpenRuns
from pylon.swarm.runs.run import Run
from pylon.swarm.spending.purse import Purse
from pylon.swarm.wire.meaning import Meaning, Partial, PaymentAsked, TakenBack, answer_of
from pylon.swarm.wire.settling import Settling

logger = log.get("swarm")


class Answers:
    """Takes meanings from `Inbox`, and settled results from `Settling`.

    `rescoring` checks answers with our own model, where there is one.
    """

    def __init__(
        self,
        *,
        deciders: Deciders,
        clock: Clock,
        runs: OpenRuns,
        flights: Flights,
        outlook: Outlook,
        purse: Purse | None,
        rescorer: Rescorer | None,
    ) -> None:
        self.rescoring = Rescoring(rescorer, self._scored)
        self._settling = Settling(purse=purse, flights=flights, deciders=deciders, settled=self)
        self._deciders = deciders
        self._clock = clock
        self._runs = runs
        self._flights = flights
        self._outlook = outlook

    async def close(self) -> None:
        """Waits until receipts and payments under way are booked, then stops."""
        try:
            await self._settling.close()
        finally:
            await self.rescoring.close()

    def heard(self, event: Event, flight: Flight, meaning: Meaning) -> None:
        """A provider's event for this flight, and what it means."""
        match meaning:
            case PaymentAsked():
                self._settling.asked(event, flight, meaning)
            case m.Answered():
                self._settling.result(event, flight)
            case TakenBack(_, result):
                self._settling.taken_back(event, flight, result)
            case Partial(attempt, text):
                self._deciders.tell(m.Acknowledged(attempt))
                if not self._deciders.dispatcher.is_live(attempt):
                    # The attempt was given up, and another provider's answer may be shown by now.
                    return
                run = self._runs.of_slot(flight.slot)
                if run is not None and run.partial is not None:
                    run.partial(text)
            case m.Acknowledged(attempt, float(wait_s)):
                # The event may have been stored on a relay for a while.
                age_s = max(0.0, self._clock.wall() - event.created_at)
                self._deciders.tell(m.Acknowledged(attempt, max(0.0, wait_s - age_s)))
            case m.Refused(attempt, ErrorCode() as code):
                if flight.charge.is_settled:
                    # Its receipt is being booked: to release what it costs would let the run spend that once more.
                    return
                flight.charge.waive()
                if code is ErrorCode.CANCELLED and flight.may_be_back:
                    # We cancelled it, perhaps in an earlier process: that is not held against the provider.
                    meaning = m.Refused(attempt, None, ours=True)
                self._deciders.tell(meaning)
                for each in flight.attempts:
                    if self._deciders.dispatcher.is_open(each):
                        # The attempt was given up and is not worked on: it will not be charged.
                        self._deciders.tell(m.Charged(each, 0))
            case _:
                self._deciders.tell(meaning)

    def unheard(self, flight: Flight) -> None:
        """No relay has stored a word for this request."""
        self._deciders.tell(m.Unheard(flight.attempt))

    def booked(self, request: str, charged: Msat) -> None:
        """The receipt of a request came late, and was booked: so much was charged."""
        flight = self._flights.of_request(request)
        if flight is None or self._deciders.dispatcher.is_live(flight.attempt):
            # The answer is still waited for: it brings the receipt again, and is counted then.
            return
        flight.charge.book(charged)
        for attempt in flight.attempts:
            self._deciders.tell(m.Charged(attempt, int(charged)))
        self._flights.booked(flight)

    def answered(self, flight: Flight) -> None:
        """See `Settled`."""
        if (checks := self._deciders.checks) is not None:
            checks.examination.holds = self.rescoring.holds()
        now, run = self._clock.monotonic(), self._runs.of_slot(flight.slot)
        charged = flight.charge.added
        if run is not None:
            run.msat += charged or 0
        offered = self._offered(flight)
        answer = answer_of(flight, now, offered)
        try:
            self._deciders.answered(flight.slot, flight.attempt, answer, charged=charged, offered=offered)
        except Exception as error:
            self._lose(run, error)
        if charged is not None and self._deciders.dispatcher.is_open(flight.attempt):
            # Its slot or run was over, or its answer was rejected.
            self._deciders.tell(m.Charged(flight.attempt, charged))
        self._also(flight)

    def not_paid(self, slot: int, detail: str) -> None:
        """See `Settled`."""
        self._runs.explain(slot, FailureDetail(m.Failure.UNPAID, detail))

    def not_offered(self, slot: int, provider: str) -> None:
        """See `Settled`."""
        self.not_paid(slot, self._outlook.why_unpaid(provider))

    def wants_money(self, provider: str) -> None:
        """See `Settled`."""
        self._outlook.wants_money(provider)

    def part_paid(self, flight: Flight) -> None:
        """See `Settled`. Booked is what was sent of an answer that was cancelled, or a result that came again after
        it had been taken without a receipt."""
        charged = flight.charge.added or 0
        if (run := self._runs.of_slot(flight.slot)) is not None:
            run.msat += charged
        # An attempt that an earlier process cancelled may still be waited for here.
        self._deciders.tell(m.Refused(flight.attempt, None, ours=True))
        if flight.charge.is_known or flight.offer is None:
            self._deciders.tell(m.Charged(flight.attempt, charged))
        self._also(flight)

    def _offered(self, flight: Flight) -> tuple[OfferedModel, ...]:
        """The models that the provider offered when the request was sent, and those that it offers now."""
        listing = self._deciders.directory.get(flight.provider)
        if listing is None or not flight.offered or listing.models is flight.offered:
            return flight.offered
        return (*flight.offered, *listing.models)

    def _also(self, flight: Flight) -> None:
        """Tells the budgets of earlier calls that count this request too."""
        for attempt in flight.also if flight.charge.is_known else ():
            self._deciders.tell(m.Charged(attempt, int(flight.charge.paid)))

    def _scored(self, slot: int, verdict: Verdict) -> None:
        try:
            self._deciders.scored(slot, verdict)
        except Exception as error:
            self._lose(self._runs.of_slot(slot), error)

    def _lose(self, run: Run | None, error: Exception) -> None:
        """Ends a run: the deciders failed over one of its answers, and the state of that place is unknown."""
        logger.error("an answer could not be processed", exc_info=error)
        self._runs.lose(run, error)
