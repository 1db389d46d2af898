"""Stand-ins for tests: relays in memory that pass events on, and providers that answer without a model.

Both are fakes behind the seam that `RelayPool` fills. Events, keys and encryption are the real ones.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pylon.errors import ConnectionLostError, NotAcknowledgedError, RateLimitedError, RelayError
from pylon.jobs.announcement import Announcement, OfferedModel, announcement_draft, withdrawal_draft
from pylon.jobs.answer import Address
from pylon.jobs.cancel import parse_cancel
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import Feedback, Status, feedback_draft
from pylon.jobs.heartbeat import Heartbeat, heartbeat_draft
from pylon.jobs.kinds import REQUEST_KINDS, result_kind
from pylon.jobs.request import ReceivedRequest, parse_request
from pylon.jobs.result import Finish, JobResult, ModelUsed, Timing, result_draft
from pylon.money.accounts.usage import Usage
from pylon.nostr.client.connection import RelayStatus
from pylon.nostr.client.subscriptions import Filters
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import Received
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.timers import Timers

MODEL = OfferedModel("fake-model", "ab" * 32, "f32", 4_096)
# Whoever asks more often what fits on a relay does so for ever, and leaves no turn of the loop to any timeout.
MOST_LOOKS = 20_000


class FakeSubscription:
    """What the fake relays push to one reader."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters()
        self.caught_up = asyncio.Event()
        self.queue: asyncio.Queue[Received] = asyncio.Queue()
        self.closed = False

    async def next_batch(self, most: int) -> list[Received]:
        batch = [await self.queue.get()]
        while len(batch) < most and not self.queue.empty():
            batch.append(self.queue.get_nowait())
        return batch

    async def close(self) -> None:
        self.closed = True


@dataclass
class FakeRelays:
    """Keeps everything, pushes at once. `loses` says which live pushes go missing, `refuses` which publications."""

    loses: Callable[[Event], bool] = lambda event: False
    refuses: Callable[[Event], bool] = lambda event: False
    # In which words.
    refusal: str = "error: the fake relay takes nothing"
    stored: dict[str, Event] = field(default_factory=dict)
    subscriptions: list[FakeSubscription] = field(default_factory=list)
    providers: dict[str, "FakeProvider"] = field(default_factory=dict)
    queries: list[tuple[Filter, ...]] = field(default_factory=list)
    refusing: list[str] = field(default_factory=list)
    publishing: int = 0
    takes: int = 65_536
    # What each of several relays takes.
    takes_at: dict[str, int] = field(default_factory=dict)
    sent_to: list[Sequence[str] | None] = field(default_factory=list)
    # Which of them are not connected.
    down: set[str] = field(default_factory=set)
    # Which of them say `rate-limited`, until they are in here no more.
    slow: set[str] = field(default_factory=set)
    # Which of them give no OK, and which refuse everything.
    mute: set[str] = field(default_factory=set)
    shut: set[str] = field(default_factory=set)
    # Which of them do not let the customer's key in, as they say at once.
    not_let_in: set[str] = field(default_factory=set)
    # Whether those that give no OK pass on what they are given all the same.
    passes_on: bool = False
    most_publishing: int = 0
    looks: int = 0

    @property
    def urls(self) -> list[str]:
        return list(self.takes_at) or ["ws://fake.invalid"]

    @property
    def statuses(self) -> list[RelayStatus]:
        return [
            RelayStatus(
                url,
                "connecting" if url in self.down else "open",
                error="the relay refused our key" if url in self.not_let_in else "",
            )
            for url in self.urls
        ]

    @property
    def refusals(self) -> list[str]:
        return self.refusing

    def event_bytes(self, relays: Sequence[str] | None = None, *, most: int) -> int:
        self.looks += 1
        if self.looks > MOST_LOOKS:
            raise RecursionError("what fits on a relay is asked for ever")
        return min(most, max(self.takes_at.get(url, self.takes) for url in relays or self.urls))

    async def publish(
        self, event: Event, *, relays: Sequence[str] | None = None, timeout: float = 15.0, once: bool = False
    ) -> list[str]:
        self.publishing += 1
        self.sent_to.append(relays)
        self.most_publishing = max(self.most_publishing, self.publishing)
        try:
            await asyncio.sleep(0)
            if self.down.issuperset(relays or self.urls):
                if once:
                    raise ConnectionLostError("no relay is connected")
                await asyncio.sleep(timeout)
                raise RelayError("no relay is connected")
            if self.slow.issuperset(relays or self.urls):
                if once:
                    raise RateLimitedError("rate-limited: slow down")
                async with asyncio.timeout(timeout):
                    while self.slow.issuperset(relays or self.urls):
                        await asyncio.sleep(0.01)
            if self.mute.issuperset(relays or self.urls):
                if self.passes_on:
                    self.give(event)
                await asyncio.sleep(timeout)
                raise NotAcknowledgedError("the relay did not acknowledge an event in time")
            if self.shut.issuperset(relays or self.urls):
                raise RelayError("the relay refused an event: blocked: not here")
            if self.refuses(event):
                raise RelayError(f"{self.urls[0]} refused an event: {self.refusal}")
            self.give(event)
            return self.urls
        finally:
            self.publishing -= 1

    def give(self, event: Event) -> None:
        """Stores the event and passes it on."""
        if event.id in self.stored:
            return
        self.stored[event.id] = event
        for key in event.tag_values("p"):
            if key in self.providers and event.pubkey != key:
                self.providers[key].take(event)
        if not self.loses(event):
            for subscription in self.subscriptions:
                if not subscription.closed and any(f.matches(event) for f in subscription.filters):
                    subscription.queue.put_nowait(Received(event, self.urls[0]))

    def subscribe(self, filters: Filters, *, name: str = "") -> FakeSubscription:
        subscription = FakeSubscription(filters)
        self.subscriptions.append(subscription)
        for event in self.stored.values():
            if any(f.matches(event) for f in subscription.filters):
                subscription.queue.put_nowait(Received(event, self.urls[0]))
        subscription.caught_up.set()
        return subscription

    async def query(
        self, filters: tuple[Filter, ...], *, relays: Sequence[str] | None = None, timeout: float = 10.0
    ) -> list[Event]:
        self.queries.append(filters)
        await asyncio.sleep(0)
        return [event for event in self.stored.values() if any(f.matches(event) for f in filters)]

    def requests(self) -> list[Event]:
        return [event for event in self.stored.values() if event.kind in REQUEST_KINDS]


class FakeProvider:
    """Answers `echo: <prompt>` after `delay_s`, one job a slot at a time; `refuse` names a code instead. `lets_go`:
    it says of jobs that are taken back that they are not done."""

    def __init__(
        self,
        relays: FakeRelays,
        *,
        now: float,
        slots: int = 1,
        delay_s: float = 0.0,
        refuse: ErrorCode | None = None,
        silent: bool = False,
        lets_go: bool = False,
        acknowledge: bool = False,
        wait_s: float | None = None,
        model: OfferedModel = MODEL,
        seen: bool = True,
        **announced: object,
    ) -> None:
        self.secret = SecretKey.generate()
        self.public = self.secret.public
        self.delay_s, self.refuse, self.silent, self.acknowledge = delay_s, refuse, silent, acknowledge
        self.wait_s, self.lets_go = wait_s, lets_go
        self.received: list[ReceivedRequest] = []
        self.cancelled: list[str] = []
        self.said_before_s = 0
        self._relays = relays
        self._now = int(now)
        self._keys = ConversationKeys(self.secret)
        self._slots = asyncio.Semaphore(slots)
        self._tasks: set[asyncio.Task[None]] = set()
        self.announcement = replace(
            Announcement("pylon", kinds=REQUEST_KINDS, models=(model,), relays=("ws://fake.invalid",)),
            **announced,  # type: ignore[arg-type]
        )
        self.heartbeat = Heartbeat("pylon", slots, slots, models=((model.id, model.sha256),))
        self.used: ModelUsed | None = ModelUsed(model.id, model.sha256, model.quantization)
        self.finish = Finish.STOP
        relays.providers[self.public] = self
        if seen:
            self.announce()
            self.beat()

    def announce(self) -> None:
        draft = announcement_draft(self.announcement, created_at=self._now)
        self._relays.give(self.secret.sign(draft))

    def beat(self, *, after: int = 0, **changes: object) -> None:
        now = self._now + after
        beat = replace(self.heartbeat, expires_at=now + 120, **changes)  # type: ignore[arg-type]
        self._relays.give(self.secret.sign(heartbeat_draft(beat, created_at=now)))

    def withdraw(self) -> None:
        draft = withdrawal_draft(self.public, self.announcement.d, created_at=self._now + 1)
        self._relays.give(self.secret.sign(draft))

    def take(self, event: Event) -> None:
        if event.kind not in REQUEST_KINDS:
            back = parse_cancel(event).requests
            self.cancelled += back
            for request in self.received if self.lets_go else ():
                if request.id in back:
                    self.refused(request, ErrorCode.CANCELLED)
            return
        request = parse_request(event, self._keys)
        self.received.append(request)
        if not self.silent:
            task = asyncio.get_running_loop().create_task(self._answer(event, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, event: Event, request: ReceivedRequest) -> None:
        address = _address(request)
        if self.refuse is not None:
            self.refused(request, self.refuse)
            return
        if self.acknowledge:
            self._say(Feedback(address, Status.PROCESSING, wait_s=self.wait_s))
        async with self._slots:
            await asyncio.sleep(self.delay_s)
        self.result(event, request, f"echo: {request.job.text}")

    def refused(self, request: ReceivedRequest, code: ErrorCode) -> None:
        """Says that a job is not done."""
        self._say(Feedback(_address(request), Status.ERROR, code))

    def _say(self, feedback: Feedback) -> None:
        created_at = self._now - self.said_before_s
        self._relays.give(self.secret.sign(feedback_draft(feedback, self._keys, created_at=created_at)))

    def result(self, event: Event, request: ReceivedRequest, text: str, *, as_: SecretKey | None = None) -> Event:
        """Publishes a result; `as_` another key, as an impostor would."""
        signer = as_ or self.secret
        result = JobResult(
            Address(request.id, request.customer, request.private),
            result_kind(request.job.kind),
            text,
            self.used,
            Usage(3, 5),
            Timing(0, 50),
            self.finish,
        )
        keys = self._keys if as_ is None else ConversationKeys(signer)
        draft = result_draft(result, keys, request=event, created_at=self._now)
        signed = signer.sign(draft)
        self._relays.give(signed)
        return signed


def _address(request: ReceivedRequest) -> Address:
    return Address(request.id, request.customer, request.private)


def all_goes_on(client: SwarmClient) -> bool:
    """Whether all runs that a client without a purse does by itself: it hears answers and providers, ticks, looks for
    lost answers and for announcements."""
    return len(client._upkeep._tasks) == 5


def first_due(timers: Timers) -> float | None:
    """When something is due at the earliest: a simulated clock goes on to then."""
    if timers._near:
        return -timers._near[-1][0]
    return -max(timers._far[timers._intervals[0]])[0] if timers._intervals else None
