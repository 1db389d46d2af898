"""The contents of jobs (prompt, parameters and request event): in memory while a job runs, in the journal while it
waits.

A sealed request of a few kilobytes may hold a prompt of megabytes, and thousands of jobs may wait. So a waiting job
is kept without its contents, and they are read and decrypted again when the engine has room for it.
"""

from dataclasses import replace

from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import parse_request
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.provider.journal import Journal
from pylon.provider.queue import Job

# Contents of at most so many characters stay in memory: they are not worth a second decryption.
SHORT = 4_096
# What a tag takes in memory besides its values, in characters.
_TAG = 64
_NOTHING = JobParameters()


def put_aside(job: Job) -> Job:
    """A journaled job as it waits: without its contents, unless they are short.

    Its customer, terms and account data stay.
    """
    if job.event is None or length(job) <= SHORT:
        return job
    asked = replace(job.request.job, text="", parameters=_NOTHING)
    return replace(job, event=None, request=replace(job.request, job=asked, providers=()))


def length(job: Job) -> int:
    """The length of a job's contents, in characters; 0 for one that was put aside."""
    event, asked = job.event, job.request.job
    if event is None:
        return 0
    said = (asked.text, asked.parameters.system or "", asked.parameters.schema or "", event.content)
    return sum(map(len, said)) + sum(_TAG + sum(map(len, tag)) for tag in event.tags)


class Contents:
    """Reads back the contents of jobs that were put aside; `keys` decrypt sealed requests."""

    def __init__(self, journal: Journal, keys: ConversationKeys) -> None:
        self._journal = journal
        self._keys = keys

    async def whole(self, job: Job) -> Job:
        """The job with its contents. Raises `sqlite3.Error`, and `LookupError` for a job that has ended."""
        if job.event is not None:
            return job
        event = await self._journal.request(job.id)
        return replace(job, event=event, request=parse_request(event, self._keys))
