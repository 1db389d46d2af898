"""What the dispatcher is told (events), and what it wants done (commands). Times are monotonic seconds.

A slot is a job's number, an attempt is one sending of it to one provider; both are never used twice.
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
    BUDGET = "budget"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    CANCELLED = "cancelled"


@record
class SlotJob:
    """One slot to fill. It ends `timeout` seconds after it was first sent, and at `deadline` in any case.

    Jobs of a higher `priority` go first, those of one priority run by run in turn. `to` are the only providers that
    may have it, the most wanted first (any, when empty); `without` are some that must not.
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
        """The same as one of this run, and for these providers."""
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
    """So many more jobs are about to be added: however few wait, this is not the end of a run."""

    jobs: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """A job that an earlier process sent to this provider: its answer is waited for as if it were sent now.

    `cost` is the most that it may charge, in msat: this much of the run's budget is set aside, as far as it goes. One
    that was `taken_back` since may have been answered before: it is waited for until relays were asked.
    """

    job: SlotJob
    provider: str
    cost: int = 0
    taken_back: bool = False


@dataclass(frozen=True, slots=True)
class Owe:
    """An earlier process sent something for this run. Nobody waits for it, and it may be charged until `lapses_at`.

    `cost`, in msat, is the most: that much of the run's budget is set aside, however little is left. It has the next
    attempt's number.
    """

    run: int
    cost: int
    lapses_at: float


@dataclass(frozen=True, slots=True)
class Fund:
    """The most that a run may cost, in msat, attempts that come to nothing included. None: no limit. It ends with a
    `Forget`."""

    run: int
    msat: int | None


@dataclass(frozen=True, slots=True)
class Drop:
    """These slots are not to be filled any more; `failure` says why."""

    slots: tuple[int, ...]
    failure: Failure = Failure.CANCELLED


@dataclass(frozen=True, slots=True)
class Forget:
    """Nobody asks what becomes of this run any more: these, all of its slots, end without a word."""

    run: int
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """This slot is waited for until then at the most. Its provider is not told: it would see what it is asked for."""

    slot: int
    ends_at: float


@record
class Published:
    """A relay has the request: from here on its provider can be expected to say something."""

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
    """The request goes over this relay: the one that it was to go over takes nothing so large."""

    attempt: int
    relay: str


@dataclass(frozen=True, slots=True)
class RelaysDown:
    """Those of the customer's relays that are not connected now or deliver little, and no others. Nobody waits for
    those that are `gone`: they have not been connected for long, or are, and what has no other way goes over them."""

    urls: frozenset[str]
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The provider said that it works on it, or will in so many seconds (None: it did not say when)."""

    attempt: int
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unheard:
    """Relays were asked, and hold no word of the provider's, though one was due by now.

    Of what an earlier process took back: they hold no answer.
    """

    attempt: int


@record
class Answered:
    """A result came that may be delivered. `charged` is in msat; None counts as all that it could cost."""

    attempt: int
    charged: int | None = None


@dataclass(frozen=True, slots=True)
class Charged:
    """An attempt that was given up costs so much, in msat, and no more. Its slot and its run may be over."""

    attempt: int
    msat: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider said no. `code` None: a plain peer's own words, or its answer was no good.

    With `ours` the answer is lost by a fault of ours, and nothing is held against its provider. `unpaid`: it would
    work for money, and none is offered to it.
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
    """Send the slot's job to this provider, good until `expires_at`. A hedge is a second try beside the first.

    `relay` is one that both sides use and that has room; None when they share none.
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
    """The slot is filled with the answer of this attempt, after so many sendings."""

    slot: int
    attempt: int
    attempts: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The slot stays empty. `code` is the last one that a provider gave."""

    slot: int
    failure: Failure
    code: ErrorCode | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Lapsed:
    """An attempt that was given up is not charged any more, whatever comes: its run's budget counts it as nothing."""

    attempt: int


type DispatchCommand = Send | CancelAttempt | Deliver | GiveUp | Lapsed
