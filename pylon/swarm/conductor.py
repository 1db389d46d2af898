"""Carries out the commands of the deciders, by calling the edges. It decides nothing itself."""

from dataclasses import dataclass, field

from pylon import log
from pylon.swarm.checks import commands as c
from pylon.swarm.compose import priced_size
from pylon.swarm.dispatch import messages as m
from pylon.swarm.flights import Flights
from pylon.swarm.job import FailureDetail, failed
from pylon.swarm.outlook import Outlook
from pylon.swarm.providers.listing import Need
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.runs.open_runs import OpenRuns
from pylon.swarm.runs.places import Fail, Fill, RunCommand, Unfill
from pylon.swarm.transport import Transport
from pylon.swarm.wire.answers import Answers
from pylon.swarm.wire.requests import Requests

logger = log.get("swarm")


@dataclass(slots=True)
class _Together:
    """What is collected over one list of commands: by need and size, why there is no provider and what to do about
    it; and the providers whose reputation changed.
    """

    nobody: dict[tuple[Need, tuple[int, int]], tuple[str, str]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)


class Conductor:
    """See the module."""

    def __init__(
        self,
        *,
        deciders: Deciders,
        pool: Transport,
        flights: Flights,
        runs: OpenRuns,
        outlook: Outlook,
        requests: Requests,
        answers: Answers,
    ) -> None:
        self._deciders = deciders
        self._pool = pool
        self._flights = flights
        self._runs = runs
        self._outlook = outlook
        self._requests = requests
        self._answers = answers
        deciders.follow = self.follow

    def follow(self, commands: list[RunCommand]) -> None:
        """Carries out these commands, in this order."""
        if not commands and not self._deciders.over:
            return
        # First, since a run that ends with one of the commands ends the flights by which requests are found.
        unwanted = self._unwanted(commands)
        unmade = self._unmade(commands)
        together = _Together()
        for command in commands:
            try:
                self._do(command, together)
            except Exception as error:
                # The deciders count it as done. The other commands are carried out all the same.
                logger.error("a command could not be carried out", command=repr(command), exc_info=error)
                self._give_up(command, error)
        for (provider, kind), requests in unwanted.items():
            self._requests.cancel(tuple(requests), kind, provider)
        for over in self._deciders.over:
            self._flights.end(over)
        self._deciders.over.clear()
        for attempt in unmade:
            self._deciders.tell(m.Charged(attempt, 0))
        # Last, since the deciders are told of it and command again, and these commands come before those.
        for provider in together.changed:
            self._outlook.reconsider(provider)

    def _unwanted(self, commands: list[RunCommand]) -> dict[tuple[str, int], list[str]]:
        """The requests to cancel, by provider and kind. Their flights are marked as taken back."""
        found: dict[tuple[str, int], list[str]] = {}
        for command in commands:
            if isinstance(command, m.CancelAttempt) and (flight := self._flights.of_attempt(command.attempt)):
                flight.take_back()
                if flight.journal is not None:
                    flight.journal.taken_back(flight.request)
                found.setdefault((command.provider, flight.kind), []).append(flight.request)
        return found

    def _unmade(self, commands: list[RunCommand]) -> list[int]:
        """Attempts that ended before their request was made. It never will be, and costs nothing."""
        return [
            command.attempt
            for command in commands
            if isinstance(command, m.CancelAttempt)
            and self._deciders.dispatcher.is_open(command.attempt)
            and self._flights.of_attempt(command.attempt) is None
        ]

    def _do(self, command: RunCommand, together: _Together) -> None:
        match command:
            case m.Lapsed(attempt):
                self._flights.lapse(attempt)
            case m.Send():
                self._requests.send(command)
            case Fill(run, place, answer):
                self._runs.settle(run, place, answer)
            case Unfill(run, place, bad):
                self._runs.reopen(run, place, bad=bad)
            case Fail(run) if run not in self._runs.by_number:
                # The run ended with an earlier one of these commands: its caller's function raised.
                pass
            case Fail(run, place, m.Failure.NO_PROVIDER as failure, code, attempts):
                spec = self._runs.by_number[run].specs[place]
                asked = (self._runs.need(spec), priced_size(spec))
                if asked not in together.nobody:
                    lack = self._outlook.lack(asked[0], self._pool.refusals, asked[1])
                    together.nobody[asked] = (str(lack), lack.hint)
                self._runs.settle(run, place, failed(failure, code, attempts, *together.nobody[asked]))
            case Fail(run, place, failure, code, attempts):
                told = self._runs.by_number[run].details.get((place, failure), FailureDetail(failure, ""))
                self._runs.settle(run, place, failed(failure, code, attempts, told.detail, told.hint))
            case c.Rescore(slot, answer):
                self._answers.rescoring.begin(slot, self._deciders.pieces.spec_of(slot), answer)
            case c.Changed(provider):
                together.changed.append(provider)

    def _give_up(self, command: RunCommand, error: Exception) -> None:
        """Ends the run of a place whose command failed: nothing would ever fill it."""
        match command:
            case Fill(number) | Unfill(number) | Fail(number):
                self._runs.lose(self._runs.by_number.get(number), error)
            case _:
                # A request that was not sent meets silence, and the job goes to another provider.
                pass
