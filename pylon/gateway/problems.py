"""Errors as the gateway answers them: OpenAI's error object, the HTTP status, and whether and when to try again."""

from collections.abc import Mapping
from typing import Any

from pylon.errors import NodeSilentError, PylonError, UnreachableError, UsageError
from pylon.gateway.upstream import SilentCoreError
from pylon.jobs.codes import ErrorCode
from pylon.swarm.dispatch.messages import Failure

# Clients should try again after this time, since providers come and go within seconds.
RETRY_S = 5
# The same when the gateway itself is full: another request ends sooner.
BUSY_S = 1

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout",
    413: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout",
}
_STATUS = {
    Failure.BUDGET: 402,
    Failure.TOO_LARGE: 413,
    Failure.MALFORMED: 400,
    Failure.DEADLINE: 504,
}
# Refusals by providers that are the request's fault.
_REFUSED = {
    ErrorCode.TOO_LARGE: 400,
    ErrorCode.MALFORMED: 400,
    ErrorCode.UNSUPPORTED_PARAM: 400,
    ErrorCode.BID_TOO_LOW: 402,
    ErrorCode.CREDIT_EXHAUSTED: 402,
}


class Problem(Exception):  # noqa: N818 - what a client is told, most often of its own fault
    """An error answer with its HTTP status. `param` names the parameter at fault. `retry_s` is the `Retry-After`
    header, 0 for none. `again` tells clients that retry by themselves whether to do so (`x-should-retry`, which
    OpenAI's clients read); None leaves it to their own rules. With `closes` the connection is closed afterwards.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_s: int = 0,
        again: bool | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_s = retry_s
        self.again = again
        self.closes = closes

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        headers = {"retry-after": str(self.retry_s)} if self.retry_s else {}
        if self.again is not None:
            headers["x-should-retry"] = str(self.again).lower()
        if self.closes:
            headers["connection"] = "close"
        return {**headers, "www-authenticate": "Bearer"} if self.status == 401 else headers


def problem_of_row(row: dict[str, Any], job: Mapping[str, Any]) -> Problem:
    """The error for a job that failed; `row` is that of its outcome, with `error` set."""
    error = row["error"]
    reason, code = Failure(error["reason"]), error["code"]
    status = _STATUS.get(reason, 503)
    if reason in (Failure.REFUSED, Failure.EXHAUSTED) and code is not None:
        status = _REFUSED.get(ErrorCode(code), 503)
    name = code if reason is Failure.REFUSED and code is not None else reason.value
    said = _sentence(error["message"], error["hint"])
    if status == 400 and code == ErrorCode.TOO_LARGE:
        return too_long(said)
    if status == 400 and code == ErrorCode.UNSUPPORTED_PARAM and "schema" in job:
        # Providers do not say which parameter they lack, but it is hardly ever another one.
        said = "none of the providers asked can answer with a schema. Choose a model whose providers can."
        return Problem(status, name, said, param="response_format")
    # The core has tried all suitable providers, and waited: a retry would take as long, and may cost as much.
    again = (reason is Failure.REFUSED and code == ErrorCode.BUSY) if status in (503, 504) else None
    return Problem(status, name, said, retry_s=RETRY_S if status == 503 else 0, again=again)


def too_long(why: str, param: str = "messages") -> Problem:
    """OpenAI's error for a prompt too long for any context: clients look for its code, and send less."""
    todo = "Ask for fewer." if param == "max_tokens" else "Shorten the messages or `max_tokens`."
    return Problem(400, "context_length_exceeded", f"{why}. {todo}", param=param)


def problem_of_error(error: PylonError, waited_s: float = 0.0) -> Problem:
    """The error for a call of the core that failed after `waited_s` seconds."""
    said = _sentence(str(error), error.hint)
    if isinstance(error, SilentCoreError | NodeSilentError):
        return Problem(504, "node_silent", said, retry_s=RETRY_S, again=False)
    if isinstance(error, UnreachableError):
        # A node that is restarting is back soon; one that was waited for already is not.
        again = None if waited_s < RETRY_S else False
        return Problem(503, "no_provider", said, retry_s=RETRY_S, again=again)
    if isinstance(error, UsageError):
        return Problem(400, "malformed", said)
    return Problem(500, "internal_error", said, again=False)


def _sentence(message: str, hint: str) -> str:
    return f"{message}. {hint}" if hint else message
