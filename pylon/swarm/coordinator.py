"""Runs of jobs from the first sending to answers that stand: the dispatcher and the checks as one decider.

A place of a run is filled by an answer that passed what it had to pass. It may be asked in more than one slot: again
when its answer turned out to be no good, and a second time for comparison. Values in, decisions out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.codes import ErrorCode
from pylon.swarm import check_moves as c
from pylon.swarm import moves as m
from pylon.swarm.beside import Question
from pylon.swarm.checks import Checks
from pylon.swarm.directory import ProviderDown, ProviderUp
from pylon.swarm.dispatch import Dispatcher
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.listing import Need
from pylon.swarm.places import Command, Fail, Fill, Piece, Unfill
from pylon.swarm.reputation import Seen
from pylon.swarm.verification import Verdict, fault_of, is_cut_off

# How often a place is asked anew because its answer was no good.
MOST_AGAIN = 3


@dataclass(slots=True)
class _Run:
    job: Callable[[JobSpec, int], m.Job]
    final: bool = False
    # Questions that are still to be asked.
    coming: int = 0
    slots: list[int] = field(default_factory=list)


class Coordinator:
    """See the module. Without `checks` every answer is taken as it comes."""

    def __init__(self, dispatcher: Dispatcher, checks: Checks | None, own: frozenset[str] = frozenset()) -> None:
        self.dispatcher = dispatcher
        self.checks = checks
        self.own = own
        self._pieces: dict[int, Piece] = {}
        self._runs: dict[int, _Run] = {}
        self._arrived: dict[int, Answer] = {}
        # Slots on their way, with their providers, of which none was looked at for a second opinion beside it.
        self._sent: dict[Need, dict[int, str]] = {}
        self._next_slot = 0
        self._next_run = 1
        self._coming = 0
        self._out: list[Command] = []
        self._wall = 0.0
        self.over: list[int] = []
        """The slots that are over: nothing that comes for them is waited for. Whoever has taken note clears it."""

    def piece_of(self, slot: int) -> Piece:
        """What a slot is for, while its run is open."""
        return self._pieces[slot]

    def spec_of(self, slot: int) -> JobSpec:
        """What is asked in a slot."""
        return self._pieces[slot].spec

    def place_of(self, slot: int) -> int | None:
        """The place of its run that a slot is for; None for a second opinion."""
        piece = self._pieces.get(slot)
        return None if piece is None or piece.opinion_of is not None else piece.place

    def run_of(self, slot: int) -> int | None:
        """The number of the run that a slot is for, while that is open."""
        piece = self._pieces.get(slot)
        return None if piece is None else piece.run

    def begin(self, job: Callable[[JobSpec, int], m.Job], jobs: int, *, final: bool = False) -> int:
        """The number of a new run of so many jobs. `job` makes one of a question and a slot; nothing is sent yet.

        With `final` a place that was filled stays so, whatever turns out later.
        """
        run, self._next_run = self._next_run, self._next_run + 1
        self._runs[run] = _Run(job, final)
        if self.checks is not None:
            self.checks.added(run, jobs, final=final)
        return run

    def taken_up(self, run: int, answered: int, asked: int) -> None:
        """Of a run that began just now an earlier process had so many answers, and asked so many second opinions."""
        if self.checks is not None:
            self.checks.taken_up(run, answered, asked)

    def ask(
        self, run: int, questions: Iterable[tuple[int, JobSpec]], now: float, wall: float, *, coming: int = 0
    ) -> list[Command]:
        """Asks some of a run's questions, each for its place; so many more are to follow at once."""
        jobs = tuple(self._slot(Piece(run, place, spec)) for place, spec in questions)
        self._runs[run].coming, before = coming, self._coming
        added = m.Add(jobs)
        if self._expected() > before:
            # At no moment may the first or the last of them look like all there is.
            return self._expect(now, wall) + self.handle(added, now, wall)
        return self.handle(added, now, wall) + self._expect(now, wall)

    def adopt(
        self, run: int, place: int, spec: JobSpec, provider: str, cost: int, now: float, wall: float
    ) -> tuple[int, int, list[Command]]:
        """Waits for the answer of a provider that an earlier process asked: slot, attempt, and what else follows.

        `cost` is the most that it may charge, in msat.
        """
        job = self._slot(Piece(run, place, spec))
        attempt = self.dispatcher.last_attempt + 1
        return job.slot, attempt, self.handle(m.Adopt(job, provider, cost), now, wall)

    def end(self, run: int, now: float, wall: float) -> list[Command]:
        """The run is over, whatever became of it: what is out is cancelled, and nothing is filled any more."""
        slots = self._runs.pop(run).slots
        if self.checks is not None:
            self.checks.closed(run, slots)
        for slot in slots:
            if self._sent:
                self._unwatch(slot)
            del self._pieces[slot]
        self.over += slots
        out = self.handle(m.Forget(run, tuple(slots)), now, wall) + self.handle(m.Fund(run, None), now, wall)
        return out + self._expect(now, wall)

    def handle(self, event: m.SwarmEvent, now: float, wall: float) -> list[Command]:
        """What follows from what providers and relays did. `now` is monotonic, `wall` Unix seconds."""
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
        offered: tuple[OfferedModel, ...] = (),
    ) -> list[Command]:
        """A provider's answer, signed and paid for. It is looked at before it counts as one: among other things,
        whether it is by one of the models that were `offered`.
        """
        self._out, self._wall = [], wall
        piece = self._pieces.get(slot)
        if piece is None:
            return []
        watched = None if answer.provider in self.own else self.checks
        fault = None if watched is None else fault_of(piece.spec, answer, offered)
        if fault is not None or is_cut_off(answer):
            if self.dispatcher.is_live(attempt):
                if watched is not None and fault is not None:
                    self._apply(watched.note(answer.provider, Seen.FAULTY, wall, fault.value), now)
                self._tell(m.Refused(attempt, None), now)
        else:
            self._arrived[attempt] = answer
            self._tell(m.Answered(attempt, int(answer.paid)), now)
            self._arrived.pop(attempt, None)
        if self._sent:
            self._look_beside(now)
        return self._out

    def scored(self, slot: int, verdict: Verdict, now: float, wall: float) -> list[Command]:
        """What our own model says of an answer."""
        self._out, self._wall = [], wall
        if self.checks is not None:
            self._apply(self.checks.scored(slot, verdict, wall), now)
        if self._sent:
            self._look_beside(now)
        return self._out

    # --- inside -----------------------------------------------------------------------------------------------

    def _expected(self) -> int:
        return sum(run.coming for run in self._runs.values())

    def _expect(self, now: float, wall: float) -> list[Command]:
        """Tells the dispatcher what is to come, when that has changed."""
        if (coming := self._expected()) == self._coming:
            return []
        self._coming = coming
        return self.handle(m.Coming(coming), now, wall)

    def _slot(self, piece: Piece, to: tuple[str, ...] = ()) -> m.Job:
        slot, self._next_slot = self._next_slot, self._next_slot + 1
        run = self._runs[piece.run]
        job = piece.job = run.job(piece.spec, slot).within(piece.run, to, piece.without)
        self._pieces[slot] = piece
        run.slots.append(slot)
        return job

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
        """Something was sent. A question that goes to somebody else too is examined when its answer is there."""
        piece = self._pieces[slot]
        if piece.opinion_of is not None:
            return
        if piece.sent:
            self._unwatch(slot)
            self._unasked(slot, now)
        elif self.checks is not None and provider not in self.own:
            self._sent.setdefault(piece.job.need, {})[slot] = provider
        piece.sent = True

    def _unwatch(self, slot: int) -> None:
        need = self._pieces[slot].job.need
        if (sent := self._sent.get(need)) is not None and sent.pop(slot, None) is not None and not sent:
            del self._sent[need]

    def _look_beside(self, now: float) -> None:
        """Has second opinions asked for beside what is on its way, while the last jobs wait."""
        if self.checks is None:
            return
        for need in list(self._sent):
            if (waiting := self.dispatcher.last(need)) and (sent := self._sent.pop(need, None)) is not None:
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
        if self.checks is None or answer.provider in self.own:
            if piece.opinion_of is None:
                self._unasked(slot, now)
                self._fill(slot, answer, ())
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
        piece.filled = True
        self._out.append(Fail(piece.run, piece.place, failure, code, piece.attempts + attempts))

    def _unasked(self, slot: int, now: float) -> None:
        """Nobody has to say anything to a slot's answer any more."""
        if self.checks is not None:
            self.checks.left(slot)
        if (opinion := self._pieces[slot].opinion) is not None:
            self._tell(m.Drop((opinion,)), now)

    def _fill(self, slot: int, answer: Answer, how: tuple[str, ...]) -> None:
        piece = self._pieces[slot]
        piece.filled, piece.reopened = True, False
        if how or answer.attempts != piece.attempts:
            verified = tuple(dict.fromkeys((*answer.verified, *how)))
            answer = replace(answer, attempts=piece.attempts, verified=verified)
        self._out.append(Fill(piece.run, piece.place, answer))

    def _apply(self, commands: list[c.Command], now: float) -> None:
        for command in commands:
            match command:
                case c.Accept(slot, answer, how):
                    self._fill(slot, answer, how)
                case c.Ask(slot, to, within_s):
                    self._second(slot, to, within_s, now)
                case c.Wait(slot, within_s):
                    if (opinion := self._pieces[slot].opinion) is not None:
                        self._tell(m.Bound(opinion, now + within_s), now)
                case c.Reopen(slot):
                    piece = self._pieces[slot]
                    piece.filled, piece.reopened = False, True
                    self._out.append(Unfill(piece.run, piece.place, bad=False))
                case c.Again(slots, without):
                    for slot in slots:
                        self._again(slot, without, now)
                case _:
                    self._out.append(command)

    def _second(self, slot: int, to: tuple[str, ...], within_s: float | None, now: float) -> None:
        piece = self._pieces[slot]
        job = self._slot(Piece(piece.run, piece.place, piece.spec, piece.job, opinion_of=slot), to)
        piece.opinion = job.slot
        self._tell(m.Add((job,)), now)
        if within_s is not None:
            self._tell(m.Bound(job.slot, now + within_s), now)

    def _again(self, slot: int, without: str, now: float) -> None:
        old = self._pieces[slot]
        if old.filled and self._runs[old.run].final:
            return
        if old.filled and old.again >= MOST_AGAIN:
            return
        if old.filled or old.reopened:
            self._out.append(Unfill(old.run, old.place))
        if old.again >= MOST_AGAIN:
            old.filled = True
            self._out.append(Fail(old.run, old.place, m.Failure.EXHAUSTED, None, old.attempts))
            return
        piece = replace(
            old,
            without=old.without | {without},
            again=old.again + 1,
            attempts=old.attempts,
            filled=False,
            reopened=False,
            opinion=None,
            sent=False,
        )
        self._tell(m.Add((self._slot(piece),)), now)
