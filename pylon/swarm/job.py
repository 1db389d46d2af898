"""A caller's job, and its outcome: an answer, or why there is none."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from operator import attrgetter
from typing import Any, Literal

import orjson

from pylon.errors import JobsFailedError
from pylon.jobs.codes import ErrorCode
from pylon.jobs.parameters import JobParameters
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.money.msat import ZERO, Msat
from pylon.records import record
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.providers.lack import ANSWER_TOKENS, CONNECT, NO_WALLET, UNPRICED

TIMEOUT_S = 120.0
# Providers' own default when a job does not say.
DEFAULT_MAX_TOKENS = 512


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One question.

        JobSpec("How many legs has a spider?", max_tokens=16)
        JobSpec(messages=(("user", "Hello"), ("assistant", "Hi"), ("user", "And again?")))

    `model` is an id or `sha256:…` of the weights. `messages`, (role, content) pairs, stands in place of `prompt`.
    `schema` is a JSON schema that the answer must follow. `timeout` is in seconds, from when the job is first
    sent; it is also the deadline that the provider is given, and the longest that a provider is waited for that could
    take it: for so long if one is loading its model, else for `patience_s` of the settings. `bid_msat` is the most
    that it may cost; the customer's settings may set a lower limit. What is None the provider chooses.

    `votes` is for answers that are values, such as a number or JSON: up to so many providers are asked until most of
    them agree. `stream` asks for pieces of the answer while it is made.
    """

    prompt: str = ""
    system: str | None = None
    messages: tuple[tuple[str, str], ...] | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    timeout: float = TIMEOUT_S
    bid_msat: int | None = None
    votes: int = 1
    stream: bool = False

    @property
    def text(self) -> str:
        """The text of the request: the prompt, or the chat as a JSON array."""
        if self.messages is None:
            return self.prompt
        return orjson.dumps([{"role": role, "content": content} for role, content in self.messages]).decode()

    @property
    def parameters(self) -> JobParameters:
        """The parameters as NIP-90 carries them."""
        form: Literal["text", "json_schema"] = "text" if self.schema is None else "json_schema"
        return JobParameters(
            model=self.model,
            system=self.system,
            messages=self.messages is not None,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            stop=self.stop,
            format=form,
            schema=None if self.schema is None else orjson.dumps(self.schema).decode(),
            stream=self.stream,
        )


@record
class Answer:
    """An answer. Times are in ms; `model`, `sha256` and `usage` are what the provider signed, not what was proven.

    `queue_ms` and `run_ms` are the provider's own account, `latency_ms` is what passed here between sending the
    request that was answered and its answer. `verified` names the checks that the answer passed.
    `max_completion_tokens` is the longest answer that the provider announced with this model, 0 where it said none.
    """

    text: str
    provider: str
    model: str
    sha256: str
    usage: Usage | None
    finish: Finish | None
    queue_ms: int
    run_ms: int
    latency_ms: int
    attempts: int
    request_id: str
    result_id: str
    paid: Msat = ZERO
    verified: tuple[str, ...] = ("signature",)
    max_completion_tokens: int = 0

    @property
    def is_longest(self) -> bool:
        """Whether it was cut at the longest length that its provider announces."""
        longest = self.max_completion_tokens
        return self.finish is Finish.LENGTH and self.usage is not None and 0 < longest <= self.usage.completion_tokens

    def row(self) -> dict[str, Any]:
        """Its fields by name, as JSON values: the same that `orjson` makes of an `Answer`."""
        # `asdict` copies every value, which takes longer than all the rest.
        row = dict(zip(_FIELDS, _values(self), strict=True))
        return {**row, "usage": None if self.usage is None else asdict(self.usage), "paid": int(self.paid)}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Answer":
        """The answer of such a row, as read from JSON. Other keys are ignored."""
        said = {name: row[name] for name in _FIELDS}
        usage, finish = said["usage"], said["finish"]
        said["usage"] = None if usage is None else Usage(**usage)
        said["finish"] = None if finish is None else Finish(finish)
        said["verified"] = tuple(said["verified"])
        said["paid"] = Msat(said["paid"])
        return cls(**said)


_FIELDS = tuple(field.name for field in fields(Answer))
_values = attrgetter(*_FIELDS)


class JobFailed(JobsFailedError):  # noqa: N818 - first of all an outcome, which only `complete` raises
    """A job without an answer: the reason, the last code that a provider gave, and how often the job was sent."""

    def __init__(
        self, message: str, *, reason: Failure, code: ErrorCode | None = None, attempts: int = 0, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.code = code
        self.attempts = attempts

    def __reduce__(self) -> tuple[Callable[..., "JobFailed"], tuple[str]]:
        # Outcomes are pickled, and by default exceptions do not keep keyword arguments.
        again = partial(JobFailed, reason=self.reason, code=self.code, attempts=self.attempts, hint=self.hint)
        return again, (str(self),)


type Outcome = Answer | JobFailed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `in_flight` counts all of this customer's jobs, other runs included; `msat` was charged."""

    total: int
    answered: int
    failed: int
    in_flight: int
    msat: int = 0


@dataclass(frozen=True, slots=True)
class FailureDetail:
    """Details for a job that ends for this `reason`: what happened, and what to do about it (`hint`, may be
    empty)."""

    reason: Failure
    detail: str
    hint: str = ""


_UNPAID = {
    UNPRICED: "Only providers that announce a price are paid; for the others, `pylon providers` shows `?`.",
    NO_WALLET: CONNECT,
}
# Failures that are explained by a detail of their own.
_EXPLAINED = frozenset(
    {
        Failure.NO_PROVIDER,
        Failure.NOT_SENT,
        Failure.UNCONFIRMED,
        Failure.TOO_LARGE,
        Failure.MALFORMED,
        Failure.UNPAID,
    }
)


def failed(reason: Failure, code: ErrorCode | None, attempts: int, detail: str = "", hint: str = "") -> JobFailed:
    """The `JobFailed` for a slot that was given up; `hint` replaces the usual one."""
    text = {
        Failure.NO_PROVIDER: "no live provider can take this job",
        Failure.DEADLINE: "no answer arrived in time",
        Failure.UNHEARD: "no provider that was asked reacted",
        Failure.EXHAUSTED: "every provider that was asked failed this job",
        Failure.REFUSED: "providers refuse this job",
        Failure.UNPAID: "the last provider asked wants to be paid first, and nothing was paid",
        Failure.NOT_SENT: "the request could not be sent",
        Failure.UNCONFIRMED: "no relay confirmed the request",
        Failure.BUDGET: "the rest of the run's budget does not cover it",
        Failure.TOO_LARGE: "the job does not fit into one event",
        Failure.MALFORMED: "the job cannot be sent",
        Failure.CANCELLED: "the job was cancelled",
    }[reason]
    hint = hint or {
        Failure.NO_PROVIDER: "See `pylon providers`, or name another model.",
        Failure.UNHEARD: "They may have gone since they last announced themselves; see `pylon providers`.",
        Failure.DEADLINE: "Allow a longer timeout, or ask for fewer tokens.",
        Failure.UNPAID: _UNPAID.get(detail, ""),
        Failure.BUDGET: (
            "Raise the run's budget, resume the run with a larger one, or ask for fewer "
            f"{ANSWER_TOKENS}: the longest possible answer is paid in advance."
        ),
        Failure.TOO_LARGE: "Split the prompt into smaller pieces.",
    }.get(reason, "")
    # A relay's word on an earlier try must not explain another failure.
    if detail and reason in _EXPLAINED:
        text = f"{text}: {detail.removeprefix('not paid, because ')}"
    elif code is not None:
        text = f"{text} (the last error was {code.value})"
    return JobFailed(text, reason=reason, code=code, attempts=attempts, hint=hint)
