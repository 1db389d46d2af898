"""What becomes of a customer's runs: the deciders' commands are followed, and what comes back is told to them."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pylon import log
from pylon.clock import Clock
from pylon.errors import UnreachableError
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.swarm import check_moves as c
from pylon.swarm import moves as m
from pylon.swarm.asked import fault_in
from pylon.swarm.checks import Checks
from pylon.swarm.compose import job_of
from pylon.swarm.coordinator import Coordinator
from pylon.swarm.directory import Directory
from pylon.swarm.dispatch import Dispatcher
from pylon.swarm.flights import Flight, Flights, Meaning, Partial, PaymentAsked, TakenBack
from pylon.swarm.job import Answer, Fault, JobSpec, Outcome, answered, failed
from pylon.swarm.journal import Kept
from pylon.swarm.listing import Listing, Need
from pylon.swarm.money import Settling
from pylon.swarm.outbox import Outbox
from pylon.swarm.outlook import Outlook
from pylon.swarm.places import Command, Fail, Fill, Unfill
from pylon.swarm.purse import Purse
from pylon.swarm.reach import Reach
from pylon.swarm.reputation import Reputation
from pylon.swarm.requests import Requests
from pylon.swarm.rescoring import Rescorer, Rescoring
from pylon.swarm.runs import Run
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.transport import Transport
from pylon.swarm.verification import Verdict

# A hundred thousand questions at once would hold up everybody for a second.
_AT_ONCE = 5_000

logger = log.get("swarm")


@dataclass(slots=True)
class _Together:
    """What one list of commands has in common: why there is nobody for a need, and what to do about it; providers of
    whom something else is known now.
    """

    nobody: dict[Need, tuple[str, str]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)


class Conductor:
    """Stands between the deciders and the wire, and decides nothing itself. `directory` is the client's."""

    def __init__(
        self,
        pool: Transport,
        secret: SecretKey,
        keys: ConversationKeys,
        settings: SwarmSettings,
        directory: Directory,
        outbox: Outbox,
        clock: Clock,
        rng: random.Random,
        *,
        purse: Purse | None,
        reputation: Reputation,
        rescorer: Rescorer | None,
        reach: Reach | None,
    ) -> None:
        self.settings = settings
        self.flights = Flights()
        self.checks = None if settings.checks is None else Checks(settings.checks, reputation, rng)
        dispatcher = Dispatcher(settings.dispatch, rng, pool.urls)
        self.coordinator = Coordinator(dispatcher, self.checks, settings.own)
        self.outlook = Outlook(
            directory, settings.own, self.tell, clock,
            purse=purse, reputation=reputation, checked=self.checks is not None, reach=reach,
        )  # fmt: skip
        self._pool = pool
        self._reputation = reputation
        self._rescoring = Rescoring(rescorer, self._scored)
        self._clock = clock
        self._settling = Settling(
            purse, self.flights, self.tell, self._answered, self._part_paid, dispatcher.is_live,
            self.outlook.wants_money, self._not_paid,
        )  # fmt: skip
        self._runs: dict[int, Run] = {}
        self._requests = Requests(
            pool, secret, keys, clock, rng, directory, self.coordinator, self.flights, outbox,
            purse, self.tell, self._runs, self._fault, reach,
        )  # fmt: skip

    @property
    def busy(self) -> bool:
        """Whether something is out."""
        return self.coordinator.dispatcher.open > 0

    async def close(self) -> None:
        """Ends, once the money that is on its way has been booked. Nothing may be out any more."""
        await self._settling.close()
        await self._rescoring.close()

    def change_company(self, *, allow: frozenset[str] | None, own: frozenset[str]) -> None:
        """From now on these alone may be asked (None: anybody), and these are one's own machines."""
        before, self.settings = self.settings.own, replace(self.settings, allow=allow, own=own)
        self.coordinator.own = self._reputation.own = self.outlook.own = own
        for provider in before ^ own:
            self.outlook.reconsider(provider)

    # --- runs -------------------------------------------------------------------------------------------------

    def open(self, run: Run, *, deadline: float, priority: int) -> None:
        """A run begins, and gets its number. `deadline` is on the monotonic clock."""

        def job(spec: JobSpec, slot: int) -> m.Job:
            return job_of(slot, spec, self.settings, deadline=deadline, priority=priority)

        run.number = self.coordinator.begin(job, len(run.specs), final=run.on_outcome is not None)
        self._runs[run.number] = run

    def take_up(self, run: Run, kept: Kept) -> tuple[list[Flight], list[int]]:
        """Settles what the journal knows, and waits for what it sent: that is to be looked for. And the places that
        are left, to be asked.
        """
        for place, answer in kept.answers.items():
            run.settle(place, answer, self.coordinator.dispatcher.in_flight)
            if run.broken is not None:
                break
        if run.done.is_set():
            self._over(run)
            return [], []
        self.coordinator.taken_up(run.number, len(kept.answers), kept.opinions)
        now, wall = self._clock.monotonic(), self._clock.wall()
        open_ = kept.open_at(wall)
        flights: list[Flight] = []
        for place, sent in open_.items():
            number, spec = run.number, run.specs[place]
            cost = int(sent.quote or 0)
            slot, attempt, commands = self.coordinator.adopt(number, place, spec, sent.provider, cost, now, wall)
            flight = sent.flight(slot, attempt, now, wall)
            flight.stream = spec.stream
            self.flights.add(flight)
            self.flights.went_out(attempt, now)
            flights.append(flight)
            self._follow(commands)
        return flights, [n for n in range(len(run.specs)) if n not in kept.answers and n not in open_]

    async def ask(self, run: Run, places: Sequence[int]) -> None:
        """Asks questions of a run, some in each turn of the event loop, for as long as the run is open."""
        for at in range(0, len(places), _AT_ONCE):
            if run.number not in self._runs:
                return
            questions: list[tuple[int, JobSpec]] = []
            for place in places[at : at + _AT_ONCE]:
                if fault := fault_in(run.specs[place]):
                    self._settle(run.number, place, failed(m.Failure.MALFORMED, None, 0, fault))
                else:
                    questions.append((place, run.specs[place]))
            if run.number not in self._runs:
                return
            coming = max(0, len(places) - at - _AT_ONCE)
            now, wall = self._clock.monotonic(), self._clock.wall()
            self._follow(self.coordinator.ask(run.number, questions, now, wall, coming=coming))
            await asyncio.sleep(0)

    def cancel_all(self) -> None:
        """Cancels all runs."""
        for run in list(self._runs.values()):
            self.cancel(run)

    def drop(self, run: Run) -> None:
        """Whoever waited for it does so no longer; nothing happens to a run that is over."""
        if run.number in self._runs:
            self._over(run)

    def cancel(self, run: Run) -> None:
        """Whatever has no outcome yet is cancelled; nothing happens to a run that is over."""
        if run.number not in self._runs:
            return
        cancelled = failed(m.Failure.CANCELLED, None, 0)
        for place, outcome in enumerate(run.outcomes):
            if outcome is None and run.broken is None:
                run.settle(place, cancelled, self.coordinator.dispatcher.in_flight)
        if run.number in self._runs:
            self._over(run)

    def _over(self, run: Run) -> None:
        run.left = self.coordinator.dispatcher.budget_left(run.number)
        del self._runs[run.number]
        self._follow(self.coordinator.end(run.number, self._clock.monotonic(), self._clock.wall()))

    def _need(self, spec: JobSpec) -> Need:
        return job_of(0, spec, self.settings, deadline=0.0).need

    def nobody(self, spec: JobSpec) -> UnreachableError:
        """Who is there, why nobody takes this, and what to do about it."""
        return self.outlook.lack(self._need(spec), self._pool.refusals).error()

    def why_not(self, spec: JobSpec, listing: Listing) -> str:
        """Why this provider does not take this, in a few words, or empty when it does."""
        return self.outlook.why_not(self._need(spec), listing)

    # --- the deciders' commands -------------------------------------------------------------------------------

    def tell(self, event: m.SwarmEvent) -> None:
        """The deciders hear of something, and what they command is done."""
        self._follow(self.coordinator.handle(event, self._clock.monotonic(), self._clock.wall()))

    def _follow(self, commands: list[Command]) -> None:
        if not commands and not self.coordinator.over:
            return
        # First: a run that ends with one of these ends flights, by which they are found.
        unwanted = self._unwanted(commands)
        together = _Together()
        for command in commands:
            try:
                self._do(command, together)
            except Exception as error:
                # The deciders count it as done. The others of these are done all the same.
                logger.error("a command could not be followed", command=repr(command), exc_info=error)
                self._give_up(command, error)
        for (provider, kind), requests in unwanted.items():
            self._requests.cancel(tuple(requests), kind, provider)
        for over in self.coordinator.over:
            self.flights.end(over)
        self.coordinator.over.clear()
        # Last: the deciders are told of it and command again, and what they knew here comes before that.
        for provider in together.changed:
            self.outlook.reconsider(provider)

    def _unwanted(self, commands: list[Command]) -> dict[tuple[str, int], list[str]]:
        """Requests that nobody wants any more, by their provider and kind. They count as taken back."""
        found: dict[tuple[str, int], list[str]] = {}
        for command in commands:
            if isinstance(command, m.CancelAttempt) and (flight := self.flights.of_attempt(command.attempt)):
                flight.cancelled = True
                found.setdefault((command.provider, flight.kind), []).append(flight.request)
        return found

    def _do(self, command: Command, together: "_Together") -> None:
        match command:
            case m.Send():
                self._requests.send(command)
            case Fill(run, place, answer):
                self._settle(run, place, answer)
            case Unfill(run, place, bad):
                self._reopen(run, place, bad=bad)
            case Fail(run) if run not in self._runs:
                # It ended with an earlier one of these: its caller's function broke.
                pass
            case Fail(run, place, m.Failure.NO_PROVIDER as failure, code, attempts):
                need = self._need(self._runs[run].specs[place])
                if need not in together.nobody:
                    lack = self.outlook.lack(need, self._pool.refusals)
                    together.nobody[need] = (str(lack), lack.hint)
                self._settle(run, place, failed(failure, code, attempts, *together.nobody[need]))
            case Fail(run, place, failure, code, attempts):
                fault = self._runs[run].faults.get((place, failure), Fault(failure, ""))
                self._settle(run, place, failed(failure, code, attempts, fault.detail, fault.hint))
            case c.Rescore(slot, answer):
                self._rescoring.begin(slot, self.coordinator.spec_of(slot), answer)
            case c.Changed(provider):
                together.changed.append(provider)

    def _give_up(self, command: Command, error: Exception) -> None:
        """Ends the run whose place did not become what it should: nothing would ever fill it."""
        match command:
            case Fill(number) | Unfill(number) | Fail(number):
                self._end_broken(self._runs.get(number), error)
            case _:
                # Whoever is not asked is silent, and somebody else is asked in his place.
                pass

    def _end_broken(self, run: Run | None, error: Exception) -> None:
        if run is not None and run.number in self._runs:
            run.give_up(error)
            self._over(run)

    def _settle(self, number: int, place: int, outcome: Outcome) -> None:
        run = self._runs.get(number)
        if run is None:
            return
        if run.journal is not None and isinstance(outcome, Answer):
            run.journal.filled(place, outcome)
        run.settle(place, outcome, self.coordinator.dispatcher.in_flight)
        if run.done.is_set():
            self._over(run)

    def _reopen(self, number: int, place: int, *, bad: bool) -> None:
        run = self._runs.get(number)
        if run is None:
            return
        # What is only looked at once more stays on disk: a crash now must not have the place asked and paid again.
        if bad and run.journal is not None:
            run.journal.unfilled(place)
        run.reopen(place)

    def _run_of(self, slot: int) -> Run | None:
        number = self.coordinator.run_of(slot)
        return None if number is None else self._runs.get(number)

    def _fault(self, slot: int, fault: Fault) -> None:
        run, place = self._run_of(slot), self.coordinator.place_of(slot)
        if run is not None and place is not None:
            run.faults[place, fault.reason] = fault

    def _not_paid(self, slot: int, detail: str) -> None:
        self._fault(slot, Fault(m.Failure.UNPAID, detail))

    # --- what comes back --------------------------------------------------------------------------------------

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
                self.tell(m.Acknowledged(attempt))
                if not self.coordinator.dispatcher.is_live(attempt):
                    # It was given up, and somebody else's answer may be shown by now.
                    return
                run = self._run_of(flight.slot)
                if run is not None and run.partial is not None:
                    run.partial(text)
            case m.Acknowledged(attempt, float(wait_s)):
                # It may have lain in a relay's store for a while.
                age_s = max(0.0, self._clock.wall() - event.created_at)
                self.tell(m.Acknowledged(attempt, max(0.0, wait_s - age_s)))
            case _:
                self.tell(meaning)

    def unheard(self, flight: Flight) -> None:
        """No relay holds a word for this request."""
        self.tell(m.Unheard(flight.attempt))

    def _answered(self, flight: Flight) -> None:
        if self.checks is not None:
            self.checks.holds = self._rescoring.holds()
        now, run = self._clock.monotonic(), self._run_of(flight.slot)
        if run is not None:
            run.msat += int(flight.paid)
        answer = answered(flight, 1, now)
        try:
            commands = self.coordinator.answered(
                flight.slot, flight.attempt, answer, now, self._clock.wall(), offered=self._requests.offered(flight)
            )
        except Exception as error:
            self._lose(run, error)
        else:
            self._follow(commands)

    def _part_paid(self, flight: Flight) -> None:
        """What was sent of an answer that was taken back is in the books. It is nobody's answer."""
        if (run := self._run_of(flight.slot)) is not None:
            run.msat += int(flight.paid)
        # One that an earlier process took back, and whose answer this one waits for.
        self.tell(m.Refused(flight.attempt, None, ours=True))
        self.tell(m.Charged(flight.attempt, int(flight.paid)))

    def _scored(self, slot: int, verdict: Verdict) -> None:
        try:
            commands = self.coordinator.scored(slot, verdict, self._clock.monotonic(), self._clock.wall())
        except Exception as error:
            self._lose(self._run_of(slot), error)
        else:
            self._follow(commands)

    def _lose(self, run: Run | None, error: Exception) -> None:
        """Ends the run of an answer over which the deciders broke: nobody can say what has become of its place."""
        logger.error("an answer could not be dealt with", exc_info=error)
        self._end_broken(run, error)
