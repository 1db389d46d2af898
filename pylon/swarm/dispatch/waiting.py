"""Jobs that were never sent: the higher priority first, and runs of one priority in turn.

So one question that a person waits for does not stand behind ten thousand of a batch.
"""

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pylon.swarm.dispatch.slot import Slot


class Waiting:
    """A queue; every call takes constant time for a handful of priorities."""

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[int, deque[Slot]]] = {}
        self.count = 0
        """How many there are, some of which may be over meanwhile."""

    def put(self, slot: "Slot") -> None:
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
    def priority(self) -> int | None:
        """That of the next one."""
        return max(self._levels, default=None)

    def first(self) -> "Slot | None":
        """The next one; those that are over are dropped on the way."""
        while self._levels:
            queue = next(iter(self._levels[max(self._levels)].values()))
            if not queue[0].done:
                return queue[0]
            self.pop()
        return None

    def pop(self) -> None:
        """Takes out the next one, as `first` gives it; the next run has its turn."""
        priority = max(self._levels)
        level = self._levels[priority]
        run, queue = next(iter(level.items()))
        queue.popleft()
        self.count -= 1
        if queue:
            level.move_to_end(run)
        else:
            del level[run]
            if not level:
                del self._levels[priority]

    def forget(self, run: int) -> None:
        """All of a run are over."""
        for priority, level in list(self._levels.items()):
            if (queue := level.pop(run, None)) is not None:
                self.count -= len(queue)
            if not level:
                del self._levels[priority]

    def slots(self) -> list["Slot"]:
        """All of them."""
        return [slot for level in self._levels.values() for queue in level.values() for slot in queue]
