"""What a customer is told about a request that is refused, or a job that ends without a result."""

from dataclasses import dataclass
from typing import Self

from pylon.jobs.codes import ErrorCode
from pylon.jobs.request import ReceivedRequest
from pylon.provider.queue import Job


@dataclass(frozen=True, slots=True)
class Refusal:
    """The error feedback for a request with this `id`, which came over `relay`."""

    customer: str
    id: str
    private: bool
    relay: str
    code: ErrorCode
    reason: str
    plain: bool = False

    @classmethod
    def to(cls, request: ReceivedRequest, relay: str, code: ErrorCode, reason: str) -> Self:
        """The refusal of a request that could be read."""
        return cls(request.customer, request.id, request.private, relay, code, reason, request.plain)

    @classmethod
    def of(cls, job: Job, code: ErrorCode, reason: str) -> Self:
        """The refusal of a job that was admitted."""
        return cls.to(job.request, job.relay, code, reason)


def taken_back(job: Job) -> Refusal | None:
    """Tells a customer that the job it took back costs nothing: until it knows, it keeps the money aside.

    None for a job that was free anyway.
    """
    return Refusal.of(job, ErrorCode.CANCELLED, "it costs nothing") if job.terms.quote else None
