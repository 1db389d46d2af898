"""What is being published on one connection, from its first sending to the relay's OK, over reconnections.

Source: NIP-01 "From relay to client: sending events and notices" (`OK`), NIP-42 (`auth-required:`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pylon.errors import RelayError
from pylon.nostr import messages as m
from pylon.nostr.event import Event
from pylon.nostr.pacing import Pacer


@dataclass(slots=True)
class _Publication:
    frame: str
    done: asyncio.Future[m.Ok]


class Publications:
    """`send` writes a frame; what it could not write is sent again by `opened` when the connection is back.

    `has_key`: whether the relay can be told who we are, if it asks.
    """

    def __init__(self, url: str, send: Callable[[str], Awaitable[None]], *, has_key: bool) -> None:
        self._url = url
        self._send = send
        self._has_key = has_key
        self._pacer = Pacer(self._send_again)
        self._waiting: dict[str, _Publication] = {}

    async def publish(self, event: Event, *, timeout: float) -> m.Ok:
        """Sends the event until the relay acknowledges it.

        Raises `RelayError` when the relay refuses it, or says nothing within `timeout` seconds.
        """
        publication = self._waiting.get(event.id)
        if publication is None:
            publication = _Publication(m.encode(m.EventMessage(event)), asyncio.get_running_loop().create_future())
            self._waiting[event.id] = publication
            publication.done.add_done_callback(lambda _: self._waiting.pop(event.id, None))
            if self._pacer.busy:
                self._pacer.hold(event.id)
            else:
                await self._send(publication.frame)
        # Not `wait_for`: several may wait for one publication, and one that goes must not end it for the others.
        await asyncio.wait((publication.done,), timeout=timeout)
        if not publication.done.done():
            publication.done.cancel()
        if publication.done.cancelled():
            raise RelayError(f"{self._url} did not acknowledge an event within {timeout:g} s")
        ok = publication.done.result()
        if not ok.accepted:
            raise RelayError(f"{self._url} refused an event: {ok.message}")
        return ok

    async def opened(self) -> None:
        """The connection is new: sends what has no answer yet, but for what the relay was too slow for."""
        for event_id, publication in list(self._waiting.items()):
            if event_id not in self._pacer:
                await self._send(publication.frame)

    async def authenticated(self) -> None:
        """The relay knows now who we are: sends all again."""
        for publication in list(self._waiting.values()):
            await self._send(publication.frame)

    def answered(self, ok: m.Ok) -> None:
        """The relay's word on an event."""
        publication = self._waiting.get(ok.event_id)
        if publication is None or publication.done.done():
            return
        reason = ok.message.partition(":")[0]
        refused = not ok.accepted and reason == "rate-limited"
        self._pacer.answered(ok.event_id, refused=refused)
        if refused:
            return
        if ok.accepted or reason == "duplicate":
            publication.done.set_result(m.Ok(ok.event_id, True, ok.message))
        elif reason == "auth-required" and self._has_key:
            # It is sent again when the relay accepted who we are; the publisher's own time-out ends the wait.
            return
        else:
            publication.done.set_result(ok)

    async def close(self) -> None:
        """Whoever waits gets a `RelayError`."""
        await self._pacer.close()
        for publication in self._waiting.values():
            if not publication.done.done():
                publication.done.set_exception(RelayError(f"{self._url} was closed before it answered"))
                # Read here, since whoever waited may have gone; asyncio would call that a fault.
                publication.done.exception()

    async def _send_again(self, event_id: str) -> bool:
        publication = self._waiting.get(event_id)
        if publication is None:
            return False
        await self._send(publication.frame)
        return True
