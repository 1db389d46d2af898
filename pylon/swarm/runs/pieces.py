"""What each slot is for: runs and slots get their numbers here, and a slot its job."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pylon.swarm.dispatch import messages as m
from pylon.swarm.job import JobSpec
from pylon.swarm.runs.places import Piece


@dataclass(slots=True)
class _Run:
    job: Callable[[JobSpec, int], m.SlotJob]
    final: bool = False
    # Questions that are still to be asked, of this one.
    coming: int = 0
    slots: list[int] = field(default_factory=list)


class Pieces:
    """See the module. A slot is known while its run is open."""

    def __init__(self) -> None:
        self.by_slot: dict[int, Piece] = {}
        self._runs: dict[int, _Run] = {}
        self._next_slot = 0
        self._next_run = 1
        # Questions of all runs that are still to be asked.
        self.coming = 0

    def begin(self, job: Callable[[JobSpec, int], m.SlotJob], *, final: bool) -> int:
        """The number of a new run; `job` makes one of a question and a slot."""
        run, self._next_run = self._next_run, self._next_run + 1
        self._runs[run] = _Run(job, final)
        return run

    def add(self, piece: Piece, to: tuple[str, ...] = ()) -> m.SlotJob:
        """The job of a new slot, which these providers alone may have (any, when empty)."""
        slot, self._next_slot = self._next_slot, self._next_slot + 1
        run = self._runs[piece.run]
        job = piece.job = run.job(piece.spec, slot).within(piece.run, to, piece.without)
        self.by_slot[slot] = piece
        run.slots.append(slot)
        return job

    def end(self, run: int) -> None:
        """The run is over, and nothing is known of its slots any more."""
        self.come(run, 0)
        for slot in self._runs.pop(run).slots:
            del self.by_slot[slot]

    def of_run(self, run: int) -> Sequence[int]:
        """The slots that it has had."""
        return self._runs[run].slots

    def is_final(self, run: int) -> bool:
        """Whether a place of it that was filled stays so."""
        return self._runs[run].final

    def come(self, run: int, jobs: int) -> None:
        """So many of its questions are still to be asked."""
        self.coming += jobs - self._runs[run].coming
        self._runs[run].coming = jobs

    def spec_of(self, slot: int) -> JobSpec:
        """What is asked in a slot."""
        return self.by_slot[slot].spec

    def place_of(self, slot: int) -> int | None:
        """The place of its run that a slot is for; None for a second opinion."""
        piece = self.by_slot.get(slot)
        return None if piece is None or piece.opinion_of is not None else piece.place

    def run_of(self, slot: int) -> int | None:
        """The number of the run that a slot is for, while that is open."""
        piece = self.by_slot.get(slot)
        return None if piece is None else piece.run
