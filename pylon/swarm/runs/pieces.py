"""What each slot is for: gives runs and slots their numbers, and each slot its job."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pylon.swarm.dispatch import messages as m
from pylon.swarm.job import JobSpec
from pylon.swarm.runs.places import Piece


@dataclass(slots=True)
class _Run:
    job: Callable[[JobSpec, int], m.SlotJob]
    final: bool = False
    # How many of its questions are still to be asked.
    coming: int = 0
    slots: list[int] = field(default_factory=list)


class Pieces:
    """See the module. A slot is known while its run is open."""

    def __init__(self) -> None:
        self.by_slot: dict[int, Piece] = {}
        self._runs: dict[int, _Run] = {}
        self._next_slot = 0
        self._next_run = 1
        # How many questions of all runs are still to be asked.
        self.coming = 0

    def begin(self, job: Callable[[JobSpec, int], m.SlotJob], *, final: bool) -> int:
        """Begins a run and returns its number. `job` makes a dispatcher's job from a question and a slot."""
        run, self._next_run = self._next_run, self._next_run + 1
        self._runs[run] = _Run(job, final)
        return run

    def add(self, piece: Piece, to: tuple[str, ...] = ()) -> m.SlotJob:
        """Gives a piece a new slot and returns its job, for these providers only (empty: any)."""
        slot, self._next_slot = self._next_slot, self._next_slot + 1
        run = self._runs[piece.run]
        job = piece.job = run.job(piece.spec, slot).within(piece.run, to, piece.without)
        self.by_slot[slot] = piece
        run.slots.append(slot)
        return job

    def end(self, run: int) -> None:
        """Forgets a run and its slots."""
        self.come(run, 0)
        for slot in self._runs.pop(run).slots:
            del self.by_slot[slot]

    def of_run(self, run: int) -> Sequence[int]:
        """All slots that a run has had."""
        return self._runs[run].slots

    def is_final(self, run: int) -> bool:
        """Whether a filled place of this run keeps its answer."""
        return self._runs[run].final

    def come(self, run: int, jobs: int) -> None:
        """Sets how many questions of a run are still to be asked."""
        self.coming += jobs - self._runs[run].coming
        self._runs[run].coming = jobs

    def spec_of(self, slot: int) -> JobSpec:
        """The question of a slot."""
        return self.by_slot[slot].spec

    def place_of(self, slot: int) -> int | None:
        """The place of its run that a slot is for; None for a second opinion."""
        piece = self.by_slot.get(slot)
        return None if piece is None or piece.opinion_of is not None else piece.place

    def run_of(self, slot: int) -> int | None:
        """The number of the run that a slot is for, while that is open."""
        piece = self.by_slot.get(slot)
        return None if piece is None else piece.run
