"""A no to a customer: what it hears of a request that is not taken on, or of a job that has no result."""

from dataclasses import dataclass
from typing import Self

from pylon.jobs.codes import ErrorCode
from pylon.jobs.request import ReceivedRequest
from pylon.provider.queue import Job


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request (its `id`) has no result. `relay` is where that came from."""

    customer: str
    id: str
    private: bool
    relay: str
    code: ErrorCode
    reason: str
    plain: bool = False

    @classmethod
    def to(cls, request: ReceivedRequest, relay: str, code: ErrorCode, reason: str) -> Self:
        """Of a request that was read."""
        return cls(request.customer, request.id, request.private, relay, code, reason, request.plain)

    @classmethod
    def of(cls, job: Job, code: ErrorCode, reason: str) -> Self:
        """Of a job that was admitted."""
        return cls.to(job.request, job.relay, code, reason)


def taken_back(job: Job) -> Refusal | None:
    """That a job which its customer took back costs nothing: as long as it might, the customer keeps that aside.

    None where it was free.
    """
    return Refusal.of(job, ErrorCode.CANCELLED, "it costs nothing") if job.terms.quote else None
