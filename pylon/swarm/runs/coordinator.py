"""Runs of jobs from the first sending to the final answers: combines the dispatcher and the checks into one decider.

A place of a run is filled by an answer that passed the checks it had to pass. It may be asked in more than one slot:
again when its answer turned out to be no good, and a second time for comparison. Values in, decisions out.
"""

from collections.abc import Callable, Iterable

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.codes import ErrorCode
from pylon.swarm.checks import commands as c
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.early_opinions import Question
from pylon.swarm.checks.reputation import Seen
from pylon.swarm.checks.verification import Verdict, fault_of, is_cut_off
from pylon.swarm.circle import Circle
from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Need
from pylon.swarm.runs.pieces import Pieces
from pylon.swarm.runs.places import Piece, RunCommand


class Coordinator:
    """See the module. Answers are taken unchecked without `checks`, and from one's own machines (`circle`)."""

    def __init__(self, dispatcher: Dispatcher, checks: Checks | None, circle: Circle) -> None:
        self.dispatcher = dispatcher
        self.checks = checks
        self.circle = circle
        self.pieces = Pieces()
        self._pieces = self.pieces.by_slot
        self._arrived: dict[int, Answer] = {}
        # By need: slots in flight, with their providers, that were not considered for an early second opinion yet.
        self._sent: dict[Need, dict[int, str]] = {}
        self._coming = 0
        self._out: list[RunCommand] = []
        self._wall = 0.0
        self.over: list[int] = []
        """The slots that have ended. The reader clears the list."""

    def begin(self, job: Callable[[JobSpec, int], m.SlotJob], jobs: int, *, final: bool = False) -> int:
        """Begins a run of so many jobs, and returns its number. Nothing is sent yet.

        `job` makes a dispatcher's job from a question and a slot. With `final` a filled place keeps its answer,
        whatever turns out later.
        """
        run = self.pieces.begin(job, final=final)
        if self.checks is not None:
            self.checks.added(run, jobs, final=final)
        return run

    def taken_up(self, run: int, answered: int, asked: int) -> None:
        """A run that has just begun was taken up: an earlier process had so many answers, and asked so many
        opinions."""
        if self.checks is not None:
            self.checks.taken_up(run, answered, asked)

    def ask(
        self, run: int, questions: Iterable[tuple[int, JobSpec]], now: float, wall: float, *, coming: int = 0
    ) -> list[RunCommand]:
        """Asks some of a run's questions, each for its place; `coming` more will follow at once."""
        added = m.Add(tuple(self.pieces.add(Piece(run, place, spec)) for place, spec in questions))
        self.pieces.come(run, coming)
        if self.pieces.coming > self._coming:
            # At no moment may the questions that are there look like the last of the run.
            return self._expect(now, wall) + self.handle(added, now, wall)
        return self.handle(added, now, wall) + self._expect(now, wall)

    def adopt(
        self,
        run: int,
        place: int,
        spec: JobSpec,
        provider: str,
        cost: int,
        now: float,
        wall: float,
        *,
        taken_back: bool = False,
    ) -> tuple[int, int, list[RunCommand]]:
        """Waits for the answer of a provider that an earlier process asked. Returns slot, attempt and commands.

        `cost` is the most that it may charge, in msat. See `Adopt` for `taken_back`.
        """
        job = self.pieces.add(Piece(run, place, spec))
        attempt = self.dispatcher.last_attempt + 1
        return job.slot, attempt, self.handle(m.Adopt(job, provider, cost, taken_back), now, wall)

    def owe(self, run: int, cost: int, lapses_at: float, now: float, wall: float) -> tuple[int, list[RunCommand]]:
        """Counts in a run's budget a request of an earlier process that is not waited for. Returns attempt and
        commands. See `Owe`."""
        attempt = self.dispatcher.last_attempt + 1
        return attempt, self.handle(m.Owe(run, cost, lapses_at), now, wall)

    def end(self, run: int, now: float, wall: float) -> list[RunCommand]:
        """Ends a run, whatever became of it: what is in flight is cancelled, and no place is filled any more."""
        # Before the pieces, which know what the slots are for, are dropped.
        slots = self.pieces.of_run(run)
        for slot in slots if len(slots) <= sum(map(len, self._sent.values())) else self._sent_for(run):
            self._unwatch(slot)
        self.pieces.end(run)
        if self.checks is not None:
            self.checks.closed(run, slots)
        self.over += slots
        return self.handle(m.Forget(run, tuple(slots)), now, wall) + self._expect(now, wall)

    def handle(self, event: m.SwarmEvent, now: float, wall: float) -> list[RunCommand]:
        """Takes in what a provider or a relay did. `now` is monotonic, `wall` Unix seconds."""
        self._out, self._wall = [], wall
        if self.checks is not None and isinstance(event, (ProviderUp, ProviderDown)):
            self.checks.observe(event)
        self._tell(event, now)
        if self._sent:
            self._look_beside(now)
        return self._out

    def answered(
        self,
        slot: int,
        attempt: int,
        answer: Answer,
        now: float,
        wall: float,
        *,
        charged: int | None = 0,
        offered: tuple[OfferedModel, ...] = (),
    ) -> list[RunCommand]:
        """A provider's signed answer came, charged so many msat (None: not known yet).

        It is checked for faults first, among other things whether it names one of the models that were `offered`.
        """
        self._out, self._wall = [], wall
        piece = self._pieces.get(slot)
        if piece is None:
            return []
        watched = None if self.circle.is_own(answer.provider) else self.checks
        fault = None if watched is None else fault_of(piece.spec, answer, offered)
        if fault is not None or is_cut_off(answer):
            if self.dispatcher.is_live(attempt):
                if watched is not None and fault is not None:
                    self._apply(watched.note(answer.provider, Seen.FAULTY, wall, fault.value), now)
                self._tell(m.Refused(attempt, None), now)
        else:
            if watched is not None:
                watched.came(answer.provider, wall)
            self._arrived[attempt] = answer
            self._tell(m.Answered(attempt, charged), now)
            self._arrived.pop(attempt, None)
        if self._sent:
            self._look_beside(now)
        return self._out

    def scored(self, slot: int, verdict: Verdict, now: float, wall: float) -> list[RunCommand]:
        """Our own model has scored the answer in this slot."""
        self._out, self._wall = [], wall
        if self.checks is not None:
            self._apply(self.checks.scored(slot, verdict, wall), now)
        if self._sent:
            self._look_beside(now)
        return self._out

    # --- inside -----------------------------------------------------------------------------------------------

    def _expect(self, now: float, wall: float) -> list[RunCommand]:
        """Tells the dispatcher how many jobs are still to come, if that has changed."""
        if (coming := self.pieces.coming) == self._coming:
            return []
        self._coming = coming
        return self.handle(m.Coming(coming), now, wall)

    def _tell(self, event: m.SwarmEvent, now: float) -> None:
        for command in self.dispatcher.handle(event, now):
            match command:
                case m.Deliver(slot, attempt, attempts):
                    self._delivered(slot, self._arrived[attempt], attempts, now)
                case m.GiveUp(slot, failure, code, attempts):
                    self._given_up(slot, failure, code, attempts, now)
                case m.Send(slot, _, provider):
                    self._out.append(command)
                    self._went_out(slot, provider, now)
                case _:
                    self._out.append(command)

    def _went_out(self, slot: int, provider: str, now: float) -> None:
        """A slot was sent: the first time it becomes a candidate for an early second opinion, later it is none."""
        piece = self._pieces[slot]
        if piece.opinion_of is not None:
            return
        if piece.sent:
            self._unwatch(slot)
            self._unasked(slot, now)
        elif self.checks is not None and not self.circle.is_own(provider):
            self._sent.setdefault(piece.job.need, {})[slot] = provider
        piece.sent = True

    def _unwatch(self, slot: int) -> None:
        need = self._pieces[slot].job.need
        if (sent := self._sent.get(need)) is not None and sent.pop(slot, None) is not None and not sent:
            del self._sent[need]

    def _sent_for(self, run: int) -> list[int]:
        return [slot for sent in self._sent.values() for slot in sent if self._pieces[slot].run == run]

    def _look_beside(self, now: float) -> None:
        """Asks for early second opinions on questions in flight, once the last jobs of their need wait."""
        if self.checks is None:
            return
        for need in list(self._sent):
            if (waiting := self.dispatcher.last_waiting(need)) and (sent := self._sent.pop(need, None)) is not None:
                self._apply(self.checks.beside((self._question(*one) for one in sent.items()), waiting), now)

    def _question(self, slot: int, provider: str) -> Question:
        piece = self._pieces[slot]
        return Question(piece.run, slot, piece.spec, provider)

    def _delivered(self, slot: int, answer: Answer, attempts: int, now: float) -> None:
        piece = self._pieces[slot]
        piece.attempts += attempts
        self.over.append(slot)
        if self._sent:
            self._unwatch(slot)
        if self.checks is None or self.circle.is_own(answer.provider):
            if piece.opinion_of is None:
                self._unasked(slot, now)
                self._out.append(piece.fill(answer, ()))
            else:
                self._opinion(piece.opinion_of, answer, now)
        elif piece.opinion_of is not None:
            self._opinion(piece.opinion_of, answer, now)
        else:
            self._apply(self.checks.answered(piece.run, slot, piece.spec, answer, self._wall), now)

    def _opinion(self, of: int, answer: Answer | None, now: float) -> None:
        if self.checks is None:
            return
        if answer is None:
            self._apply(self.checks.no_second(of, self._wall), now)
        else:
            self._apply(self.checks.second(of, answer, self._wall), now)

    def _given_up(self, slot: int, failure: m.Failure, code: ErrorCode | None, attempts: int, now: float) -> None:
        piece = self._pieces[slot]
        self.over.append(slot)
        self._unwatch(slot)
        if piece.opinion_of is not None:
            self._opinion(piece.opinion_of, None, now)
            return
        self._unasked(slot, now)
        self._out.append(piece.fail(failure, code, attempts))

    def _unasked(self, slot: int, now: float) -> None:
        """Drops the early second opinion on a slot: it is of no use any more."""
        if self.checks is not None:
            self.checks.moved_on(slot)
        if (opinion := self._pieces[slot].opinion) is not None:
            self._tell(m.Drop((opinion,)), now)

    def _apply(self, commands: list[c.CheckCommand], now: float) -> None:
        for command in commands:
            match command:
                case c.Accept(slot, answer, how):
                    self._out.append(self._pieces[slot].fill(answer, how))
                case c.Ask(slot, to, within_s):
                    self._second(slot, to, within_s, now)
                case c.Wait(slot, within_s):
                    if (opinion := self._pieces[slot].opinion) is not None:
                        self._tell(m.Bound(opinion, now + within_s), now)
                case c.Reopen(slot):
                    self._out.append(self._pieces[slot].reopen())
                case c.Again(slots, without):
                    for slot in slots:
                        self._again(slot, without, now)
                case _:
                    self._out.append(command)

    def _second(self, slot: int, to: tuple[str, ...], within_s: float | None, now: float) -> None:
        piece = self._pieces[slot]
        job = self.pieces.add(Piece(piece.run, piece.place, piece.spec, piece.job, opinion_of=slot), to)
        piece.opinion = job.slot
        self._tell(m.Add((job,)), now)
        if within_s is not None:
            self._tell(m.Bound(job.slot, now + within_s), now)

    def _again(self, slot: int, without: str, now: float) -> None:
        old = self._pieces[slot]
        if old.filled and (old.is_last or self.pieces.is_final(old.run)):
            return
        if (unfilled := old.unfill()) is not None:
            self._out.append(unfilled)
        if old.is_last:
            self._out.append(old.fail(m.Failure.EXHAUSTED, None, 0))
        else:
            self._tell(m.Add((self.pieces.add(old.again(without)),)), now)
