"""What the dispatcher is told (events) and what it wants done (commands). Times are monotonic seconds.

A slot is the number of a job, an attempt the number of one sending of it to one provider; neither is used twice.
"""

from dataclasses import dataclass
from enum import StrEnum

from pylon.jobs.codes import ErrorCode
from pylon.records import record
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Need


class Failure(StrEnum):
    """Why a slot got no answer."""

    NO_PROVIDER = "no_provider"
    DEADLINE = "deadline"
    UNHEARD = "unheard"
    EXHAUSTED = "exhausted"
    REFUSED = "refused"
    UNPAID = "unpaid"
    NOT_SENT = "not_sent"
    UNCONFIRMED = "unconfirmed"
    BUDGET = "budget"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    CANCELLED = "cancelled"


# What may end otherwise when the same job is sent again; after `BUDGET`, with a larger one.
RETRYABLE = frozenset(
    {
        Failure.NO_PROVIDER,
        Failure.DEADLINE,
        Failure.UNHEARD,
        Failure.EXHAUSTED,
        Failure.NOT_SENT,
        Failure.UNCONFIRMED,
        Failure.BUDGET,
    }
)


@record
class SlotJob:
    """One job. It ends `timeout` seconds after it was first sent, and at `deadline` at the latest.

    Jobs of a higher `priority` go first; runs of one priority take turns. `to` are the only providers that may have
    it, the most wanted first (empty: any); `without` are providers that must not.
    """

    slot: int
    need: Need
    timeout: float
    deadline: float
    prompt_tokens: int = 0
    max_tokens: int = 0
    run: int = 0
    priority: int = 0
    to: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()

    def within(self, run: int, to: tuple[str, ...], without: frozenset[str]) -> "SlotJob":
        """A copy with this run, and these providers."""
        return SlotJob(
            self.slot, self.need, self.timeout, self.deadline, self.prompt_tokens, self.max_tokens, run,
            self.priority, to, without,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Add:
    """More jobs."""

    jobs: tuple[SlotJob, ...]


@dataclass(frozen=True, slots=True)
class Coming:
    """So many more jobs are about to be added: however few wait now, they are not the last ones."""

    jobs: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """A job that an earlier process sent to this provider: its answer is waited for as if it were sent now.

    `cost` is the most that it may charge, in msat: so much of the run's budget is set aside, as far as there is. A
    job that was `taken_back` since may have been answered before that: it is waited for until relays have been asked.
    """

    job: SlotJob
    provider: str
    cost: int = 0
    taken_back: bool = False


@dataclass(frozen=True, slots=True)
class Owe:
    """An earlier process sent a request for this run that is not waited for, but may be charged until `lapses_at`.

    `cost` is the most, in msat: so much of the run's budget is set aside, however little is left. It takes the next
    attempt number.
    """

    run: int
    cost: int
    lapses_at: float


@dataclass(frozen=True, slots=True)
class Fund:
    """The most that a run may cost, in msat, failed attempts included. None: no limit. It holds until `Forget`."""

    run: int
    msat: int | None


@dataclass(frozen=True, slots=True)
class Drop:
    """Give these slots up; `failure` says why."""

    slots: tuple[int, ...]
    failure: Failure = Failure.CANCELLED


@dataclass(frozen=True, slots=True)
class Forget:
    """This run is over: `slots`, all that it has, end without a command."""

    run: int
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """This slot ends at `ends_at` at the latest. Its provider is not told: that would mark it as a second opinion."""

    slot: int
    ends_at: float


@record
class Published:
    """A relay has the request: from now on its provider is expected to say something."""

    attempt: int


@dataclass(frozen=True, slots=True)
class SendFailed:
    """No relay took the request; with `unmade` there is none that its provider could be sent, `too_large`: since the
    relays at which it is reached take nothing of that size. With `unknown` a relay may have taken it without saying
    so, and its provider may work on it.
    """

    attempt: int
    unmade: bool = False
    too_large: bool = False
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Rerouted:
    """The request goes over this relay, since the one that was chosen takes nothing so large."""

    attempt: int
    relay: str


@dataclass(frozen=True, slots=True)
class RelaysDown:
    """All of the customer's relays that are not to be used now: not connected, or delivering little.

    Those that are `gone` have not been connected for long, or are connected and deliver little. They are not waited
    for: requests that have no other way go over them.
    """

    urls: frozenset[str]
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The provider said that it has the job, and begins in `wait_s` seconds (None: it did not say when)."""

    attempt: int
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unheard:
    """Relays were asked, and hold nothing from the provider, though it should have said something by now.

    For an attempt that an earlier process took back: they hold no answer.
    """

    attempt: int


@record
class Answered:
    """A result came that may be delivered. `charged` is in msat; None (not known) counts as the whole cost."""

    attempt: int
    charged: int | None = None


@dataclass(frozen=True, slots=True)
class Charged:
    """The final charge, in msat, of an attempt that was given up. Its slot and its run may be over."""

    attempt: int
    msat: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider refused or failed the job. `code` None: it gave none, or its answer was no good.

    With `ours` the answer was lost by a fault of ours, and nothing is held against the provider. `unpaid`: it wants
    to be paid, and is not.
    """

    attempt: int
    code: ErrorCode | None
    ours: bool = False
    unpaid: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


type SwarmEvent = (
    ProviderUp
    | ProviderDown
    | Add
    | Coming
    | Adopt
    | Owe
    | Fund
    | Drop
    | Forget
    | Bound
    | Published
    | SendFailed
    | Rerouted
    | RelaysDown
    | Acknowledged
    | Unheard
    | Answered
    | Charged
    | Refused
    | Tick
)


@record
class Send:
    """Send the slot's job to this provider; the request expires at `expires_at`. A hedge goes out beside the first.

    `relay` is one that both sides use and that has room; None if they share none.
    """

    slot: int
    attempt: int
    provider: str
    expires_at: float
    hedge: bool = False
    relay: str | None = None


@dataclass(frozen=True, slots=True)
class CancelAttempt:
    """Tell the provider that this attempt is not wanted any more."""

    slot: int
    attempt: int
    provider: str


@record
class Deliver:
    """The slot is filled with the answer of this attempt. `attempts` is how often it was sent."""

    slot: int
    attempt: int
    attempts: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The slot ends without an answer. `code` is the last that a provider gave, `attempts` how often it was sent."""

    slot: int
    failure: Failure
    code: ErrorCode | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Lapsed:
    """An attempt that was given up can no longer be charged: its run's budget counts it as nothing from now on."""

    attempt: int


type DispatchCommand = Send | CancelAttempt | Deliver | GiveUp | Lapsed
