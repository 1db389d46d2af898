"""The open runs: asks their questions, and fills their places until they are over."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import batched

from pylon.clock import Clock
from pylon.money.msat import Msat
from pylon.swarm.compose import job_of
from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.in_flight import LAPSE_S
from pylon.swarm.flights import Flight, Flights
from pylon.swarm.job import Answer, FailureDetail, JobSpec, Outcome, failed
from pylon.swarm.providers.listing import Need
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.runs.kept import Kept
from pylon.swarm.runs.question_checks import unaskable
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.runs.run import Run
from pylon.swarm.settings import SwarmSettings

# Questions handled per turn of the event loop: a hundred thousand at once would block it for seconds.
AT_ONCE = 500
# The slot of requests that are not waited for.
_NO_SLOT = -1


class OpenRuns:
    """See the module. Who may be asked is read from the deciders' circle whenever a question is asked."""

    def __init__(self, settings: SwarmSettings, deciders: Deciders, flights: Flights, clock: Clock) -> None:
        self.settings = settings
        self.by_number: dict[int, Run] = {}
        self._deciders = deciders
        self._flights = flights
        self._clock = clock

    def open(self, run: Run, *, deadline: float, priority: int) -> None:
        """Begins a run, and gives it its number. `deadline` is in monotonic seconds."""

        def job(spec: JobSpec, slot: int) -> m.SlotJob:
            return job_of(slot, spec, self.settings, self._deciders.circle, deadline=deadline, priority=priority)

        run.number = self._deciders.begin(job, len(run.specs), final=run.on_outcome is not None)
        self.by_number[run.number] = run

    def is_open(self, run: Run) -> bool:
        """Whether the run is open. Closing the client ends all runs."""
        return run.number in self.by_number

    def fund(self, run: Run, reservation: CallReservation) -> None:
        """Bounds what a run may cost by its reservation, less what an earlier process was charged for it."""
        self._deciders.tell(m.Fund(run.number, max(0, reservation.msat - run.before)))
        run.budget = self._deciders.dispatcher.budget(run.number)
        if run.budget is not None:
            reservation.begin(run.budget, before=run.before)

    async def owe(self, run: Run, kept: Kept, charged: Mapping[str, int]) -> None:
        """Counts in a run's budget the requests of an earlier process that may still be charged. `charged` are those
        that have a receipt, and are counted already."""
        if run.budget is None:
            return
        now, wall = self._clock.monotonic(), self._clock.wall()
        for some in batched(kept.owed(wall, charged), AT_ONCE):
            if not self.is_open(run):
                return
            for sent in some:
                lapses_at = now + sent.expires_at + LAPSE_S - wall
                with self._deciders.owe(run.number, int(sent.quote or 0), lapses_at) as attempt:
                    flight = sent.flight(_NO_SLOT, attempt, now, wall)
                    # For a second opinion it is not known; with True a part of an answer needs proof that it was
                    # sent.
                    flight.stream = sent.place is None or run.specs[sent.place].stream
                    self._flights.owe(flight)
            await asyncio.sleep(0)

    async def take_up(self, run: Run, kept: Kept, charged: Mapping[str, int]) -> tuple[list[Flight], list[int]]:
        """Takes up a run from its journal: settles the places that have answers, and waits for open requests.

        Returns the flights of these requests, whose answers are to be looked for, and the places still to be asked.
        `charged` is what receipts charged, in msat, by request.
        """
        for some in batched(kept.answers.items(), AT_ONCE):
            if not self.is_open(run):
                return [], []
            for place, answer in some:
                if run.broken is None:
                    run.settle(place, answer, self._deciders.dispatcher.in_flight)
            await asyncio.sleep(0)
        if not self.is_open(run):
            return [], []
        if run.done.is_set():
            self._over(run)
            return [], []
        self._deciders.taken_up(run.number, len(kept.answers), kept.opinions)
        now, wall = self._clock.monotonic(), self._clock.wall()
        open_ = kept.open_at(wall)
        flights: list[Flight] = []
        for place, sent in open_.items():
            spec = run.specs[place]
            before = charged.get(sent.request)
            cost = int(sent.quote or 0) if before is None else 0
            with self._deciders.adopt(run.number, place, spec, sent.provider, cost, taken_back=sent.taken_back) as (
                slot,
                attempt,
            ):
                flight = sent.flight(slot, attempt, now, wall, before=Msat(before or 0))
                flight.stream, flight.journal = spec.stream, run.journal
                self._flights.add(flight)
                self._flights.went_out(attempt, now)
                flights.append(flight)
        return flights, [n for n in range(len(run.specs)) if n not in kept.answers and n not in open_]

    async def ask(self, run: Run, places: Sequence[int]) -> None:
        """Asks the questions of these places, some in each turn of the event loop, while the run is open."""
        for at in range(0, len(places), AT_ONCE):
            if not self.is_open(run):
                return
            questions: list[tuple[int, JobSpec]] = []
            for place in places[at : at + AT_ONCE]:
                if failure := unaskable(run.specs[place], plain=self.settings.plain):
                    self.settle(run.number, place, failure)
                else:
                    questions.append((place, run.specs[place]))
            if not self.is_open(run):
                return
            coming = max(0, len(places) - at - AT_ONCE)
            self._deciders.ask(run.number, questions, coming=coming)
            await asyncio.sleep(0)

    def cancel_all(self) -> None:
        """Cancels all runs."""
        for run in list(self.by_number.values()):
            self.cancel(run)

    def drop(self, run: Run) -> None:
        """Ends a run whose caller does not wait any more; nothing happens if it is over."""
        if self.is_open(run):
            self._over(run)

    def cancel(self, run: Run) -> None:
        """Cancels all places without an outcome, and ends the run; nothing happens if it is over."""
        if not self.is_open(run):
            return
        cancelled = failed(m.Failure.CANCELLED, None, 0)
        for place, outcome in enumerate(run.outcomes):
            if outcome is None and run.broken is None:
                run.settle(place, cancelled, self._deciders.dispatcher.in_flight)
        if self.is_open(run):
            self._over(run)

    def need(self, spec: JobSpec) -> Need:
        """What a provider must do for this question."""
        return job_of(0, spec, self.settings, self._deciders.circle, deadline=0.0).need

    # --- places -----------------------------------------------------------------------------------------------

    def settle(self, number: int, place: int, outcome: Outcome) -> None:
        """Gives a run's place its outcome. The run is over with the last one."""
        run = self.by_number.get(number)
        if run is None:
            return
        if run.journal is not None and isinstance(outcome, Answer):
            run.journal.filled(place, outcome)
        run.settle(place, outcome, self._deciders.dispatcher.in_flight)
        if run.done.is_set():
            self._over(run)

    def reopen(self, number: int, place: int, *, bad: bool) -> None:
        """Takes the answer out of a run's place. See `Unfill`."""
        run = self.by_number.get(number)
        if run is None:
            return
        # An answer that is only examined again stays on disk: after a crash the place must not be paid for twice.
        if bad and run.journal is not None:
            run.journal.unfilled(place)
        run.reopen(place)

    def of_slot(self, slot: int) -> Run | None:
        """The run that a slot is for, while it is open."""
        number = self._deciders.pieces.run_of(slot)
        return None if number is None else self.by_number.get(number)

    def explain(self, slot: int, detail: FailureDetail) -> None:
        """Notes what to tell a person if this slot's place ends with this failure."""
        run, place = self.of_slot(slot), self._deciders.pieces.place_of(slot)
        if run is not None and place is not None:
            run.details[place, detail.reason] = detail

    def lose(self, run: Run | None, error: Exception) -> None:
        """Ends a run by a fault of ours; nothing happens for None, or if it is over."""
        if run is not None and self.is_open(run):
            run.give_up(error)
            self._over(run)

    def _over(self, run: Run) -> None:
        del self.by_number[run.number]
        self._deciders.end(run.number)
