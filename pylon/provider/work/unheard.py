"""The jobs whose customers have heard nothing yet. A customer that hears nothing for too long asks elsewhere."""

from itertools import islice

from pylon.provider.queue import Job

# How many customers are told at once: signing and encrypting takes a while.
_AT_ONCE = 256


class Unheard:
    """Pure: `now` is in seconds of a monotonic clock. Feedback is due `after_s` seconds after a job came."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        # Each job with when it came, the oldest first.
        self._jobs: dict[str, tuple[Job, float]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, now: float) -> None:
        """Adds a job that came now."""
        self._jobs[job.id] = (job, now)

    def heard(self, job_id: str) -> None:
        """Removes a job: its customer has heard of it, or need not any more."""
        self._jobs.pop(job_id, None)

    def due(self, now: float) -> list[Job]:
        """The oldest jobs for which feedback is due, which stay here."""
        found: list[Job] = []
        for job, came in islice(self._jobs.values(), _AT_ONCE):
            if now - came < self._after_s:
                break
            found.append(job)
        return found

    def next_at(self) -> float | None:
        """When the next feedback is due, by the same clock; None if there is no job."""
        oldest = next(iter(self._jobs.values()), None)
        return None if oldest is None else oldest[1] + self._after_s
