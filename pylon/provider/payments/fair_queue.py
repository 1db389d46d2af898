"""Jobs of customers that have never paid: whose turn it is to get an invoice, and which one makes room for another.

Keys cost nothing, so a thousand of them may belong to one sender. But a place on every relay is not free, so relays
take turns; and of each relay the newest job comes first, so that a sender that fills all places once and leaves does
not block those that come later.
"""

from collections import OrderedDict
from collections.abc import Iterator

from pylon.provider.queue import Job

# How long a job cannot be made to give up its place, in seconds: customers that pay do so sooner.
PATIENCE_S = 60.0


class FairQueue:
    """Pure: `now` is passed in, in Unix seconds."""

    def __init__(self) -> None:
        # The jobs by relay and id, the oldest first.
        self._relays: dict[str, OrderedDict[str, Job]] = {}
        self._relay_of: dict[str, str] = {}
        # The number of each relay's last turn. There are only as many as the node has relays.
        self._last_turn: dict[str, int] = {}
        self._turns = 0

    def __len__(self) -> int:
        return len(self._relay_of)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._relay_of

    def __iter__(self) -> Iterator[Job]:
        return (job for jobs in self._relays.values() for job in jobs.values())

    @property
    def relays(self) -> int:
        """The number of relays that they came over."""
        return len(self._relays)

    def add(self, job: Job) -> bool:
        """Adds a job; False if it is here already."""
        if job.id in self._relay_of:
            return False
        self._relays.setdefault(job.relay, OrderedDict())[job.id] = job
        self._relay_of[job.id] = job.relay
        return True

    def remove(self, job_id: str) -> None:
        """Removes a job. Unknown ones are ignored."""
        relay = self._relay_of.pop(job_id, None)
        if relay is not None:
            del self._relays[relay][job_id]
            if not self._relays[relay]:
                del self._relays[relay]

    def next(self) -> Job | None:
        """The job whose turn it is, which stays here; None if there is none."""
        if not self._relays:
            return None
        jobs = self._relays[min(self._relays, key=lambda relay: self._last_turn.get(relay, 0))]
        return jobs[next(reversed(jobs))]

    def served(self, job_id: str) -> None:
        """Removes a job that had its turn, so that another relay comes next."""
        relay = self._relay_of.get(job_id)
        if relay is not None:
            self._turns += 1
            self._last_turn[relay] = self._turns
            self.remove(job_id)

    def makes_room(self, now: float) -> Job | None:
        """The oldest job of the relay with the most, which stays here; None if it has not waited long enough."""
        if not self._relays:
            return None
        fullest = max(self._relays.values(), key=len)
        oldest = next(iter(fullest.values()))
        return oldest if now - oldest.received_at >= PATIENCE_S else None
