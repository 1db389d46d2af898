"""A job on its way, and each sending of it: what the dispatcher's parts share, and none of them decides here.

`open_slots` makes and ends slots, `in_flight` begins and releases attempts, `outcomes` writes what became of them.
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
    """One sending. `live` ends when it was answered, refused, or is no longer waited for."""

    id: int
    slot: "Slot"
    standing: Standing
    sent_at: float
    rounds: int
    hedge: bool
    # The most that it may be charged, and what the budget counts now that it is not live any more.
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
    # Sent by an earlier process, if it came to that: the process may have died when it had only written it down.
    adopted: bool = False
    # That process took it back since, and nobody works on it any more.
    taken_back: bool = False

    @property
    def was_passed_over(self) -> bool:
        """Whether its provider had a word for a request that was sent later."""
        return self.standing.heard_of > self.sent_at


@dataclass(slots=True)
class Slot:
    """One job on its way. `tried` failed it before; `barred` would always refuse it.

    It is waited for until `ends_at`; its providers are told `expires_at`.
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
    code: ErrorCode | None = None
    # Whoever said no last wants to be paid.
    unpaid: bool = False
    # Somebody is reached only where relays take nothing so large.
    too_large: bool = False
    done: bool = False

    @property
    def known(self) -> frozenset[str]:
        """Who has it, had it, or would always refuse it."""
        return self.barred | {attempt.standing.provider for attempt in self.attempts}

    @property
    def live(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.live]
