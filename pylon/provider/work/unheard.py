"""Jobs whose customers have heard nothing yet, and when they have to: whoever hears nothing asks elsewhere."""

from itertools import islice

from pylon.provider.queue import Job

# So many are told at once that it takes a while.
_WORDS = 256


class Unheard:
    """Pure: `now` is given, in Unix seconds. A word is due `after_s` seconds after a job came."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        # Oldest first.
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """A job came."""
        self._jobs[job.id] = job

    def heard(self, job_id: str) -> None:
        """Its customer hears of it, or need not any more."""
        self._jobs.pop(job_id, None)

    def due(self, now: float) -> list[Job]:
        """The oldest of those that a word is due for."""
        found: list[Job] = []
        for job in islice(self._jobs.values(), _WORDS):
            if now - job.received_at < self._after_s:
                break
            found.append(job)
        return found

    def next_at(self) -> float | None:
        """When the next word is due (Unix seconds); None when nobody waits for one."""
        oldest = next(iter(self._jobs.values()), None)
        return None if oldest is None else oldest.received_at + self._after_s
