"""A customer made of bare events, so that a provider is judged by what is on the wire alone."""

import asyncio
from collections.abc import Callable
from typing import Any

from pylon.clock import SystemClock
from pylon.jobs.feedback import Feedback, parse_feedback
from pylon.jobs.kinds import FEEDBACK, RESULT_KINDS, RLM_REQUEST
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, open_draft, private_draft
from pylon.jobs.result import JobResult, parse_result
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool


class Customer:
    """Sends events and keeps what comes back."""

    def __init__(self, pool: RelayPool, secret: SecretKey) -> None:
        self.secret = secret
        self.keys = ConversationKeys(secret)
        self.pool = pool
        self.answers: list[Event] = []
        self._arrived = asyncio.Event()
        kinds = frozenset({FEEDBACK, *RESULT_KINDS})
        mine = Filter(kinds=kinds, tags={"p": frozenset({secret.public})})
        self._subscription = pool.subscribe(lambda: (mine,), name="answers")
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for received in self._subscription:
            self.answers.append(received.event)
            self._arrived.set()

    async def close(self) -> None:
        self._task.cancel()
        await self._subscription.close()

    def job(
        self, text: str = "How many legs has a spider?", *, expires_in: int = 60, **parameters: Any
    ) -> JobRequest:
        now = int(SystemClock().wall())
        return JobRequest(text, JobParameters(**parameters), RLM_REQUEST, expiration=now + expires_in)

    async def ask(self, provider: str, job: JobRequest, *, private: bool = True) -> Event:
        now = int(SystemClock().wall())
        draft = (
            private_draft(job, provider, self.keys, created_at=now)
            if private
            else open_draft(job, provider, salt="5eed", created_at=now)
        )
        return await self.send(draft)

    async def send(self, draft: EventDraft) -> Event:
        event = self.secret.sign(draft)
        await self.pool.publish(event)
        return event

    def results(self, request: Event) -> list[JobResult]:
        return [parse_result(e, self.keys) for e in self._of(request) if e.kind in RESULT_KINDS]

    def feedback(self, request: Event) -> list[Feedback]:
        return [parse_feedback(e, self.keys) for e in self._of(request) if e.kind == FEEDBACK]

    def _of(self, request: Event) -> list[Event]:
        return [event for event in self.answers if request.id in event.tag_values("e")]

    async def until[T](self, found: Callable[[], T], timeout: float = 20.0) -> T:
        """The first true value of `found`, looked for after each answer."""
        async with asyncio.timeout(timeout):
            while not (value := found()):
                self._arrived.clear()
                await self._arrived.wait()
        return value

    async def result(self, request: Event) -> JobResult:
        return (await self.until(lambda: self.results(request)))[0]

    async def refusal(self, request: Event) -> Feedback:
        found = await self.until(lambda: [f for f in self.feedback(request) if f.code is not None])
        return found[0]
