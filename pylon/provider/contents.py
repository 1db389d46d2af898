"""What a job says, which is with the job while that runs, and while it waits in the journal alone.

A sealed request of a few kilobytes may say megabytes, and thousands of jobs may wait: what these are about is read
again when the engine has room for them.
"""

from dataclasses import replace

from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import parse_request
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.provider.journal import Journal
from pylon.provider.queue import Job

# In characters, of up to four bytes each. What is shorter is not worth opening twice.
SHORT = 4_096
# What a tag costs besides its values.
_TAG = 64
_NOTHING = JobParameters()


def put_aside(job: Job) -> Job:
    """A journaled job as it waits: without what it says, where that is much.

    Who asks, on which terms, and what concerns its account stays.
    """
    if job.event is None or length(job) <= SHORT:
        return job
    asked = replace(job.request.job, text="", parameters=_NOTHING)
    return replace(job, event=None, request=replace(job.request, job=asked, providers=()))


def length(job: Job) -> int:
    """How long that is which a job says, in characters; 0 of one that was put aside."""
    event, asked = job.event, job.request.job
    if event is None:
        return 0
    said = (asked.text, asked.parameters.system or "", asked.parameters.schema or "", event.content)
    return sum(map(len, said)) + sum(_TAG + sum(map(len, tag)) for tag in event.tags)


class Contents:
    """Reads what was put aside; `keys` open sealed requests."""

    def __init__(self, journal: Journal, keys: ConversationKeys) -> None:
        self._journal = journal
        self._keys = keys

    async def whole(self, job: Job) -> Job:
        """The job with all that it says, until its end is written. Raises `sqlite3.Error`, and `LookupError` for one
        that has ended."""
        if job.event is not None:
            return job
        event = await self._journal.request(job.id)
        return replace(job, event=event, request=parse_request(event, self._keys))
