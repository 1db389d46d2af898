"""Error codes: the closed list of reasons that feedback (kind 7000) with status `error` gives."""

from enum import StrEnum

from pylon.errors import WireError


class ErrorCode(StrEnum):
    """Why a job was not done. `elsewhere` tells a customer whether another provider may still do it."""

    MALFORMED = "malformed"
    UNSUPPORTED_KIND = "unsupported_kind"
    UNSUPPORTED_MODEL = "unsupported_model"
    UNSUPPORTED_PARAM = "unsupported_param"
    UNDECRYPTABLE = "undecryptable"
    TOO_LARGE = "too_large"
    EXPIRED = "expired"
    BID_TOO_LOW = "bid_too_low"
    PAYMENT_TIMEOUT = "payment_timeout"
    CREDIT_EXHAUSTED = "credit_exhausted"
    CUSTOMER_LIMIT = "customer_limit"
    BUSY = "busy"
    PAUSED = "paused"
    ENGINE_FAILED = "engine_failed"
    CANCELLED = "cancelled"

    @property
    def elsewhere(self) -> bool:
        """Whether trying another provider can help."""
        return self not in _SAME_EVERYWHERE


# These depend on the request alone, so that every provider would say the same.
_SAME_EVERYWHERE = frozenset({ErrorCode.MALFORMED, ErrorCode.EXPIRED, ErrorCode.CANCELLED})


class RequestError(WireError):
    """A job request that cannot be served. `code` is what its customer is told."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
