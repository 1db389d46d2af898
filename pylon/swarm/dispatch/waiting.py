"""The queue of jobs that were never sent: the highest priority first, and the runs of one priority in turn.

So one question that a person waits for does not stand behind ten thousand of a batch.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylon.swarm.dispatch.slot import Slot


class Waiting:
    """See the module. With a handful of priorities every call, and each step of `firsts`, takes constant time."""

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[int, deque[Slot]]] = {}
        self.count = 0
        """How many slots are queued, including some that are done and not yet dropped."""

    def put(self, slot: "Slot") -> None:
        """Adds a slot at the end of its run's queue."""
        job = slot.job
        level = self._levels.get(job.priority)
        if level is None:
            level = self._levels[job.priority] = OrderedDict()
        queue = level.get(job.run)
        if queue is None:
            queue = level[job.run] = deque()
        queue.append(slot)
        self.count += 1

    @property
    def priorities(self) -> Collection[int]:
        """The priorities of queued slots, in no order."""
        return self._levels.keys()

    def firsts(self, least: int) -> Iterator["Slot"]:
        """The next slot of each run, of priority `least` or higher, in the order of their turns.

        Slots that are done are dropped on the way. A run whose slot is passed over goes behind the other runs.
        """
        for priority in sorted(self._levels, reverse=True):
            if priority < least:
                return
            level = self._levels[priority]
            for _ in range(len(level)):
                run, queue = next(iter(level.items()))
                while queue and queue[0].done:
                    queue.popleft()
                    self.count -= 1
                if queue:
                    yield queue[0]
                    level.move_to_end(run)
                else:
                    self._drop(priority, run)

    def take(self, slot: "Slot") -> None:
        """Takes out the slot that `firsts` just gave; the next run has its turn."""
        priority, run = slot.job.priority, slot.job.run
        level = self._levels[priority]
        queue = level[run]
        queue.popleft()
        self.count -= 1
        if queue:
            level.move_to_end(run)
        else:
            self._drop(priority, run)

    def forget(self, run: int) -> None:
        """Drops all slots of a run."""
        for priority, level in list(self._levels.items()):
            if (queue := level.pop(run, None)) is not None:
                self.count -= len(queue)
            if not level:
                del self._levels[priority]

    def _drop(self, priority: int, run: int) -> None:
        level = self._levels[priority]
        del level[run]
        if not level:
            del self._levels[priority]

    def slots(self) -> list["Slot"]:
        """All queued slots."""
        return [slot for level in self._levels.values() for queue in level.values() for slot in queue]
