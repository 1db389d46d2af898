"""A slot (one job until its outcome) and its attempts: the state that the parts of the dispatcher share.

`open_slots` makes and ends slots, `in_flight` begins and releases attempts, `outcomes` records what became of them.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pylon.jobs.codes import ErrorCode
from pylon.swarm.dispatch.messages import SlotJob
from pylon.swarm.dispatch.standing import Standing

if TYPE_CHECKING:
    from pylon.swarm.dispatch.lane import Lane


@dataclass(slots=True)
class Attempt:
    """One sending of a slot to a provider. It is `live` until it is answered, refused, or not waited for any more.

    `sent_at` is in monotonic seconds; `rounds` is after how many rounds of jobs an answer was expected when it was
    sent, and `expected_at` when.
    """

    id: int
    slot: "Slot"
    standing: Standing
    sent_at: float
    rounds: int
    hedge: bool
    expected_at: float = 0.0
    # The most that it may be charged, and what the budget counts once it is not live; both in msat.
    cost: int = 0
    counted: int = 0
    relay: str | None = None
    # How many answers its lane had had when it was sent.
    answered_before: int = 0
    live: bool = True
    published: bool = False
    acknowledged: bool = False
    # Its provider said how long it waits.
    told: bool = False
    # An earlier process sent it, or died between writing it down and sending it.
    adopted: bool = False
    # That process told the provider to stop.
    taken_back: bool = False

    @property
    def was_passed_over(self) -> bool:
        """Whether its provider has reacted to a request that was sent later."""
        return self.standing.heard_of > self.sent_at


@dataclass(slots=True)
class Slot:
    """One job until its outcome. The providers in `tried` have failed it; those in `barred` would always refuse it.

    It is waited for until `ends_at`; providers are told `expires_at`. Times are monotonic seconds.
    """

    job: SlotJob
    lane: "Lane"
    ends_at: float
    expires_at: float
    queued_at: float
    attempts: list[Attempt] = field(default_factory=list)
    tried: frozenset[str] = frozenset()
    barred: frozenset[str] = frozenset()
    failures: int = 0
    silences: int = 0
    moves: int = 0
    refusals: int = 0
    final_refusals: int = 0
    send_failures: int = 0
    # One more failure, refusal or silence ends it.
    on_last_try: bool = False
    # No relay took one of its requests, but one may have passed it on.
    unconfirmed: bool = False
    code: ErrorCode | None = None
    # The provider that refused it last wants to be paid.
    unpaid: bool = False
    # A provider is reached only over relays that take nothing so large.
    too_large: bool = False
    done: bool = False

    @property
    def known(self) -> frozenset[str]:
        """The providers that have it, had it, or would always refuse it."""
        return self.barred | {attempt.standing.provider for attempt in self.attempts}

    @property
    def live(self) -> list[Attempt]:
        """The attempts that are waited for."""
        return [attempt for attempt in self.attempts if attempt.live]
