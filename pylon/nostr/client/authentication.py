"""Authentication to a relay (NIP-42): answers its challenges with our key, at a bounded rate.

The relay's side is `pylon/relay/access.py`. Source: NIP-42.
"""

import asyncio
import math
from collections.abc import Callable

from pylon.clock import Clock
from pylon.nostr import messages as m
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip42 import auth_draft

# How long queries wait for the relay's challenge, and then for its OK to our answer. A relay that shows some events
# to their parties alone silently leaves them out of an answer until it knows who asks.
CHALLENGE_SECONDS, ANSWER_SECONDS = 0.3, 2.0
# How many challenges in a row are answered on one connection; after that the newest one every EVERY_SECONDS. A relay
# may send them as fast as it likes, and a signature costs more than a challenge.
BURST, EVERY_SECONDS = 3, 10.0
# How long to wait before answering the same challenge again after the relay refused our answer; the last one repeats.
# It may accept a later one: when its clock or ours was set, or its owner lets us in. A challenge stays valid for its
# connection.
RETRY_SECONDS = (30.0, 60.0, 120.0, 300.0, 600.0)


class Authentication:
    """Authenticates to one relay, on each of its connections.

    `finished` is called when the relay has answered, or its time to challenge us or to answer is over.
    """

    def __init__(
        self,
        url: str,
        secret: SecretKey | None,
        clock: Clock,
        send: Callable[[bytes], asyncio.Task[None] | None],
        finished: Callable[[], None],
    ) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock
        self._send = send
        self._finished = finished
        self._is_over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._challenge: str | None = None
        # The id of our AUTH event that the relay has not answered yet.
        self._answer: str | None = None
        self._sending: asyncio.Task[None] | None = None
        # Rate limit: each answer takes a slot of EVERY_SECONDS behind the one before; when the last of these ends.
        self._slots_taken_until = -math.inf
        # Set while a challenge that came too soon waits for its answer.
        self._delayed: asyncio.TimerHandle | None = None
        # Set after the relay refused our answer, until it is sent again; and how often in a row it refused.
        self._retry: asyncio.TimerHandle | None = None
        self._refusals = 0

    async def wait(self) -> None:
        """Return when authentication is over on this connection, one way or the other."""
        await self._is_over.wait()

    def opened(self) -> None:
        """A connection begins: the relay has a moment to send a challenge."""
        self._challenge, self._answer, self._slots_taken_until, self._refusals = None, None, -math.inf, 0
        self._wait_at_most(0.0 if self._secret is None else CHALLENGE_SECONDS)

    def lost(self) -> None:
        """The connection is gone."""
        # The lost connection's timers must not act on the next one.
        self._stop_waiting()
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None
        self._cancel_retry()

    def challenged(self, challenge: str) -> None:
        """The relay sent a challenge."""
        if self._secret is None:
            return
        # The same challenge again while its answer is under way: there is nothing to add.
        if self._delayed is None and challenge == self._challenge and not self._is_over.is_set():
            return
        self._challenge = challenge
        if self._delayed is None:
            wait = self._slots_taken_until - (BURST - 1) * EVERY_SECONDS - self._clock.monotonic()
            if wait > 0:
                self._delayed = asyncio.get_running_loop().call_later(wait, self._reply, self._secret)
            else:
                self._reply(self._secret)

    def settles(self, ok: m.Ok) -> bool:
        """Take an OK; whether it was for our AUTH event, and not for a publication."""
        if ok.event_id != self._answer:
            return False
        self._answer = None
        self._finish()
        if ok.accepted:
            self._refusals = 0
        elif self._secret is not None:
            wait = RETRY_SECONDS[min(self._refusals, len(RETRY_SECONDS) - 1)]
            self._refusals += 1
            self._retry = asyncio.get_running_loop().call_later(wait, self._reply, self._secret)
        return True

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _reply(self, secret: SecretKey) -> None:
        self._delayed = None
        self._cancel_retry()
        self._slots_taken_until = max(self._slots_taken_until, self._clock.monotonic()) + EVERY_SECONDS
        event = secret.sign(auth_draft(self._url, self._challenge or "", int(self._clock.wall())))
        self._answer = event.id
        self._wait_at_most(ANSWER_SECONDS)
        # An older answer is of no use now. Unsent ones must not pile up for a relay that does not read.
        if self._sending is not None:
            self._sending.cancel()
        self._sending = self._send(m.encode(m.Auth(event)))

    def _wait_at_most(self, within: float) -> None:
        self._stop_waiting()
        self._timer = asyncio.get_running_loop().call_later(within, self._finish)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._is_over.clear()

    def _finish(self) -> None:
        self._is_over.set()
        self._finished()
