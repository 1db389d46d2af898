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
CHALLENGE_SECONDS, KNOWN_SECONDS = 0.3, 2.0
# How many challenges in a row are answered on one connection; after that the newest one every EVERY_SECONDS. A relay
# may send them as fast as it likes, and a signature costs more than a challenge.
BURST, EVERY_SECONDS = 3, 10.0
# How long to wait before answering the same challenge again after the relay refused our answer; the last one repeats.
# It may accept a later one: when its clock or ours was set, or its owner lets us in. A challenge stays valid for its
# connection.
AGAIN_SECONDS = (30.0, 60.0, 120.0, 300.0, 600.0)


class Introduction:
    """Authenticates to one relay, on each of its connections.

    `known` is called when the relay has answered, or its time to challenge us or to answer is over.
    """

    def __init__(
        self,
        url: str,
        secret: SecretKey | None,
        clock: Clock,
        send: Callable[[bytes], asyncio.Task[None] | None],
        known: Callable[[], None],
    ) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock
        self._send = send
        self._known = known
        self._over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._challenge: str | None = None
        # The id of our AUTH event that the relay has not answered yet.
        self._answer: str | None = None
        self._sending: asyncio.Task[None] | None = None
        # Rate limit: when EVERY_SECONDS for each answer so far are over.
        self._even_at = -math.inf
        # Set while a challenge that came too soon waits for its answer.
        self._later: asyncio.TimerHandle | None = None
        # Set after the relay refused our answer, until it is sent again; and how often in a row it refused.
        self._again: asyncio.TimerHandle | None = None
        self._refusals = 0

    async def wait(self) -> None:
        """Return when authentication is over on this connection, one way or the other."""
        await self._over.wait()

    def opened(self) -> None:
        """A connection begins: the relay has a moment to send a challenge."""
        self._challenge, self._answer, self._even_at, self._refusals = None, None, -math.inf, 0
        self._begin(0.0 if self._secret is None else CHALLENGE_SECONDS)

    def lost(self) -> None:
        """The connection is gone."""
        # The lost connection's timers must not act on the next one.
        self._unbegin()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._try_no_more()

    def challenged(self, challenge: str) -> None:
        """The relay sent a challenge."""
        if self._secret is None:
            return
        # The same challenge again while its answer is under way: there is nothing to add.
        if self._later is None and challenge == self._challenge and not self._over.is_set():
            return
        self._challenge = challenge
        if self._later is None:
            wait = self._even_at - (BURST - 1) * EVERY_SECONDS - self._clock.monotonic()
            if wait > 0:
                self._later = asyncio.get_running_loop().call_later(wait, self._reply, self._secret)
            else:
                self._reply(self._secret)

    def settles(self, ok: m.Ok) -> bool:
        """Take an OK; whether it was for our AUTH event, and not for a publication."""
        if ok.event_id != self._answer:
            return False
        self._answer = None
        self._end()
        if ok.accepted:
            self._refusals = 0
        elif self._secret is not None:
            wait = AGAIN_SECONDS[min(self._refusals, len(AGAIN_SECONDS) - 1)]
            self._refusals += 1
            self._again = asyncio.get_running_loop().call_later(wait, self._reply, self._secret)
        return True

    def _try_no_more(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _reply(self, secret: SecretKey) -> None:
        self._later = None
        self._try_no_more()
        self._even_at = max(self._even_at, self._clock.monotonic()) + EVERY_SECONDS
        event = secret.sign(auth_draft(self._url, self._challenge or "", int(self._clock.wall())))
        self._answer = event.id
        self._begin(KNOWN_SECONDS)
        # An older answer is of no use now. Unsent ones must not pile up for a relay that does not read.
        if self._sending is not None:
            self._sending.cancel()
        self._sending = self._send(m.encode(m.Auth(event)))

    def _begin(self, within: float) -> None:
        self._unbegin()
        self._timer = asyncio.get_running_loop().call_later(within, self._end)

    def _unbegin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._over.clear()

    def _end(self) -> None:
        self._over.set()
        self._known()
