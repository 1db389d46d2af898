"""Customers that have never paid: whose turn it is to be asked for a payment, and who makes room for another.

Keys cost nothing, so a thousand of them may be one sender's. What a sender cannot have for nothing is a place on
every relay, or to be new again: relays take turns, and of each relay the newest comes first. Whoever fills the room
once and leaves stands behind everybody who comes after.
"""

from collections import OrderedDict
from collections.abc import Iterator

from pylon.provider.queue import Job

# For so long nobody has to make room: who pays at all has paid by then.
PATIENCE_S = 60.0


class Newcomers:
    """Pure: `now` is given, in Unix seconds."""

    def __init__(self) -> None:
        # By relay, of each the oldest first.
        self._relays: dict[str, OrderedDict[str, Job]] = {}
        self._relay_of: dict[str, str] = {}
        # Which turn was a relay's last. A node has few relays, and no job makes it have another.
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
        """Over how many relays they came."""
        return len(self._relays)

    def add(self, job: Job) -> bool:
        """Adds a job; False for one that is here."""
        if job.id in self._relay_of:
            return False
        self._relays.setdefault(job.relay, OrderedDict())[job.id] = job
        self._relay_of[job.id] = job.relay
        return True

    def remove(self, job_id: str) -> None:
        """Takes a job out. Unknown ones are ignored."""
        relay = self._relay_of.pop(job_id, None)
        if relay is not None:
            del self._relays[relay][job_id]
            if not self._relays[relay]:
                del self._relays[relay]

    def next(self) -> Job | None:
        """Whose turn it is; it stays here."""
        if not self._relays:
            return None
        jobs = self._relays[min(self._relays, key=lambda relay: self._last_turn.get(relay, 0))]
        return jobs[next(reversed(jobs))]

    def served(self, job_id: str) -> None:
        """Takes a job out that had its turn: the next one is another relay's."""
        relay = self._relay_of.get(job_id)
        if relay is not None:
            self._turns += 1
            self._last_turn[relay] = self._turns
            self.remove(job_id)

    def makes_room(self, now: float) -> Job | None:
        """Who has waited longest of the fullest relay, if that was long enough; it stays here."""
        if not self._relays:
            return None
        fullest = max(self._relays.values(), key=len)
        oldest = next(iter(fullest.values()))
        return oldest if now - oldest.received_at >= PATIENCE_S else None
