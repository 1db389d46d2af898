"""Jobs whose customers have heard nothing yet, and when they have to: whoever hears nothing asks elsewhere."""

from itertools import islice

from pylon.provider.queue import Job

# So many are told at once that it takes a while.
_WORDS = 256


class Unheard:
    """Pure: `now` is given, in seconds of a monotonic clock. A word is due `after_s` seconds after a job came."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        # With when they came, the oldest first.
        self._jobs: dict[str, tuple[Job, float]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, now: float) -> None:
        """A job came."""
        self._jobs[job.id] = (job, now)

    def heard(self, job_id: str) -> None:
        """Its customer hears of it, or need not any more."""
        self._jobs.pop(job_id, None)

    def due(self, now: float) -> list[Job]:
        """The oldest of those that a word is due for."""
        found: list[Job] = []
        for job, came in islice(self._jobs.values(), _WORDS):
            if now - came < self._after_s:
                break
            found.append(job)
        return found

    def next_at(self) -> float | None:
        """When the next word is due (by the same clock); None when nobody waits for one."""
        oldest = next(iter(self._jobs.values()), None)
        return None if oldest is None else oldest[1] + self._after_s
