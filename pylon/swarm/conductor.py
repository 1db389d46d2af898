"""Between the deciders and the wire: what is heard is told to them, and what they command is done."""

import random
from dataclasses import dataclass, field

from pylon import log
from pylon.clock import Clock
from pylon.errors import UnreachableError
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.swarm.checks import moves as c
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.checks.rescoring import Rescorer
from pylon.swarm.circle import Circle
from pylon.swarm.compose import priced_size
from pylon.swarm.dispatch import moves as m
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.flights import Flight, Flights
from pylon.swarm.job import Fault, JobSpec, failed
from pylon.swarm.outlook import Outlook
from pylon.swarm.providers.directory import Directory
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.providers.reach import Reach
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.open_runs import OpenRuns
from pylon.swarm.runs.places import Command, Fail, Fill, Unfill
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.spending.purse import Purse
from pylon.swarm.transport import Transport
from pylon.swarm.wire.answers import Answers
from pylon.swarm.wire.outbox import Outbox
from pylon.swarm.wire.requests import Requests

logger = log.get("swarm")


@dataclass(slots=True)
class _Together:
    """What one list of commands has in common: why there is nobody for a need of that size, and what to do about it;
    providers of whom something else is known now.
    """

    nobody: dict[tuple[Need, tuple[int, int]], tuple[str, str]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)


class Conductor:
    """Decides nothing itself. `runs` are what was asked for, `answers` takes what comes back; `directory` is the
    client's.
    """

    def __init__(
        self,
        *,
        pool: Transport,
        secret: SecretKey,
        keys: ConversationKeys,
        settings: SwarmSettings,
        circle: Circle,
        directory: Directory,
        outbox: Outbox,
        clock: Clock,
        rng: random.Random,
        purse: Purse | None,
        reputation: Reputation,
        rescorer: Rescorer | None,
        reach: Reach | None,
    ) -> None:
        self.flights = Flights(lambda attempt: self.coordinator.dispatcher.is_open(attempt))
        self.checks = None if settings.checks is None else Checks(settings.checks, reputation, rng)
        dispatcher = Dispatcher(settings.dispatch, rng, pool.urls)
        self.coordinator = Coordinator(dispatcher, self.checks, circle)
        self.runs = OpenRuns(settings, circle, self.coordinator, self.flights, clock, self._follow)
        self.outlook = Outlook(
            directory, circle, self.tell, clock,
            purse=purse, reputation=reputation, checked=self.checks is not None, reach=reach,
        )  # fmt: skip
        self._circle = circle
        self._pool = pool
        self._clock = clock
        self._requests = Requests(
            pool=pool, secret=secret, keys=keys, clock=clock, rng=rng, directory=directory,
            coordinator=self.coordinator, flights=self.flights, outbox=outbox, purse=purse, tell=self.tell,
            runs=self.runs.by_number, fault=self.runs.fault, reach=reach,
        )  # fmt: skip
        self.answers = Answers(
            coordinator=self.coordinator, runs=self.runs, flights=self.flights, clock=clock, checks=self.checks,
            purse=purse, rescorer=rescorer, tell=self.tell, follow=self._follow, offered=self._requests.offered,
            wants_money=self.outlook.wants_money,
        )  # fmt: skip

    @property
    def settings(self) -> SwarmSettings:
        """The rules for all jobs. Who may be asked by now is in the circle."""
        return self.runs.settings

    @property
    def busy(self) -> bool:
        """Whether something is out."""
        return self.coordinator.dispatcher.open > 0

    async def close(self) -> None:
        """Ends, once the money that is on its way has been booked. Nothing may be out any more."""
        await self.answers.close()

    def change_company(self, *, allow: frozenset[str] | None, own: frozenset[str]) -> None:
        """From now on these alone may be asked (None: anybody), and these are one's own machines."""
        for provider in self._circle.change(allow=allow, own=own):
            self.outlook.reconsider(provider)

    def nobody(self, spec: JobSpec) -> UnreachableError:
        """Who is there, why nobody takes this, and what to do about it."""
        return self.outlook.lack(self.runs.need(spec), self._pool.refusals, priced_size(spec)).error()

    def why_not(self, spec: JobSpec, listing: Listing) -> str:
        """Why this provider does not take this, in a few words, or empty when it does."""
        return self.outlook.why_not(self.runs.need(spec), listing)

    def repeat(self, flight: Flight) -> bool:
        """Sends a request that met silence over other relays, if there are any; whether it does."""
        return self._requests.repeat(flight)

    # --- the deciders' commands -------------------------------------------------------------------------------

    def tell(self, event: m.SwarmEvent) -> None:
        """The deciders hear of something, and what they command is done."""
        self._follow(self.coordinator.handle(event, self._clock.monotonic(), self._clock.wall()))

    def _follow(self, commands: list[Command]) -> None:
        if not commands and not self.coordinator.over:
            return
        # First: a run that ends with one of these ends flights, by which they are found.
        unwanted = self._unwanted(commands)
        unmade = self._unmade(commands)
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
        for attempt in unmade:
            self.tell(m.Charged(attempt, 0))
        # Last: the deciders are told of it and command again, and what they knew here comes before that.
        for provider in together.changed:
            self.outlook.reconsider(provider)

    def _unwanted(self, commands: list[Command]) -> dict[tuple[str, int], list[str]]:
        """Requests that nobody wants any more, by their provider and kind. They count as taken back."""
        found: dict[tuple[str, int], list[str]] = {}
        for command in commands:
            if isinstance(command, m.CancelAttempt) and (flight := self.flights.of_attempt(command.attempt)):
                flight.take_back()
                if flight.journal is not None:
                    flight.journal.taken_back(flight.request)
                found.setdefault((command.provider, flight.kind), []).append(flight.request)
        return found

    def _unmade(self, commands: list[Command]) -> list[int]:
        """Attempts whose request was not even made when they ended. It never will be, and nobody charges for it."""
        return [
            command.attempt
            for command in commands
            if isinstance(command, m.CancelAttempt)
            and self.coordinator.dispatcher.is_open(command.attempt)
            and self.flights.of_attempt(command.attempt) is None
        ]

    def _do(self, command: Command, together: "_Together") -> None:
        match command:
            case m.Lapsed(attempt):
                self.flights.lapse(attempt)
            case m.Send():
                self._requests.send(command)
            case Fill(run, place, answer):
                self.runs.settle(run, place, answer)
            case Unfill(run, place, bad):
                self.runs.reopen(run, place, bad=bad)
            case Fail(run) if run not in self.runs.by_number:
                # It ended with an earlier one of these: its caller's function broke.
                pass
            case Fail(run, place, m.Failure.NO_PROVIDER as failure, code, attempts):
                spec = self.runs.by_number[run].specs[place]
                asked = (self.runs.need(spec), priced_size(spec))
                if asked not in together.nobody:
                    lack = self.outlook.lack(asked[0], self._pool.refusals, asked[1])
                    together.nobody[asked] = (str(lack), lack.hint)
                self.runs.settle(run, place, failed(failure, code, attempts, *together.nobody[asked]))
            case Fail(run, place, failure, code, attempts):
                fault = self.runs.by_number[run].faults.get((place, failure), Fault(failure, ""))
                self.runs.settle(run, place, failed(failure, code, attempts, fault.detail, fault.hint))
            case c.Rescore(slot, answer):
                self.answers.rescoring.begin(slot, self.coordinator.pieces.spec_of(slot), answer)
            case c.Changed(provider):
                together.changed.append(provider)

    def _give_up(self, command: Command, error: Exception) -> None:
        """Ends the run whose place did not become what it should: nothing would ever fill it."""
        match command:
            case Fill(number) | Unfill(number) | Fail(number):
                self.runs.lose(self.runs.by_number.get(number), error)
            case _:
                # Whoever is not asked is silent, and somebody else is asked in his place.
                pass
