"""How a relay learns who is there: its challenges are answered with our key, so many of them and no more.

The relay's side is `pylon/relay/access.py`. Source: NIP-42.
"""

import asyncio
import math
from collections.abc import Callable

from pylon.clock import Clock
from pylon.nostr import messages as m
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip42 import auth_draft

# A relay that shows some events to their parties alone leaves them out of a query's answer, without a word, until it
# knows who asks: so long is its challenge waited for, and then its OK.
CHALLENGE_SECONDS, KNOWN_SECONDS = 0.3, 2.0
# A relay may ask anew whenever it likes, and a signature costs more than the question: so many in a row are answered
# on one connection, then one in so many seconds, which is the newest. How fast connections follow each other is ours.
BURST, EVERY_SECONDS = 3, 10.0
# One that does not believe us may later: its clock or ours is set, or its owner lets us in. A challenge holds for its
# whole connection, so that need not end; the last wait is the longest.
AGAIN_SECONDS = (30.0, 60.0, 120.0, 300.0, 600.0)


class Introduction:
    """To one relay, anew on each connection. `known` is called when it knows who we are, or does not want to."""

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
        # The event that answers it.
        self._answer: str | None = None
        self._sending: asyncio.Task[None] | None = None
        # When every answer so far has had its seconds.
        self._even_at = -math.inf
        # Set while a challenge came too soon after those before.
        self._later: asyncio.TimerHandle | None = None
        # Set while we were not believed, and how often in a row that was.
        self._again: asyncio.TimerHandle | None = None
        self._refusals = 0

    async def wait(self) -> None:
        """Returns when it is over."""
        await self._over.wait()

    def opened(self) -> None:
        """A connection begins: the relay may ask who is there, and is given a moment for that."""
        self._challenge, self._answer, self._even_at, self._refusals = None, None, -math.inf, 0
        self._begin(0.0 if self._secret is None else CHALLENGE_SECONDS)

    def lost(self) -> None:
        """The connection is gone."""
        # The timers of one that was lost must not speak for the next one.
        self._unbegin()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._try_no_more()

    def challenged(self, challenge: str) -> None:
        """The relay asks who is there."""
        if self._secret is None:
            return
        # While the answer to it is waited for, the same challenge asks for nothing new.
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
        """Whether this is what the relay says to our answer, and not to a publication."""
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
        # An older answer is worth nothing now, and a relay that reads none must not have them pile up.
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
