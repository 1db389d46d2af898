"""The publications under way at one relay: from the first sending to the relay's OK, over reconnections.

Source: NIP-01 "From relay to client: sending events and notices" (`OK`), NIP-42 (`auth-required:`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pylon.errors import ConnectionLostError, NotAcknowledgedError, RateLimitedError, RelayError
from pylon.nostr import messages as m
from pylon.nostr.client.pacing import Pacer
from pylon.nostr.event import Event
from pylon.tasks import end


@dataclass(slots=True)
class _Publication:
    """An event on its way to the relay.

    `waiting`: the callers that wait for the relay's answer, each with its deadline in the event loop's time. `once`:
    they can use another relay, so the event is not sent a second time. `unanswered`: it was sent, and the relay has
    not answered since. `refusal`: the relay's last answer, when that was `rate-limited` or `auth-required`.
    """

    frame: bytes
    once: bool
    waiting: list[tuple[asyncio.Future[m.Ok], float]] = field(default_factory=list)
    unanswered: bool = False
    refusal: str = ""


class Publications:
    """The events that one relay has not acknowledged, and the callers that wait for its answers.

    `send` writes a frame, and returns something to wait for when the relay reads too slowly to take it now. A frame
    that could not be written is sent again by `opened`, when the connection is back. `has_key`: whether there is a
    key to authenticate with, if the relay asks (NIP-42).
    """

    def __init__(self, url: str, send: Callable[[bytes], Awaitable[None] | None], *, has_key: bool) -> None:
        self._url = url
        self._send = send
        self._has_key = has_key
        self._pacer = Pacer(self._send_again)
        self._open: dict[str, _Publication] = {}
        # Why events are held back behind others: the relay's last `rate-limited` message.
        self._slowed = ""
        self._connected = False
        # The relay's refusal of our AUTH, on this connection (NIP-42).
        self._shut_out = ""
        # Frames that the relay is too slow to take now. Their failures are ignored: those events are sent again.
        self._sending: set[asyncio.Future[None]] = set()
        # One timer for all deadlines: hundreds are under way at once, and nearly all are answered in time.
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def publish(self, event: Event, *, timeout: float, once: bool = False) -> m.Ok:
        """Send the event until the relay acknowledges it; with `once` a single time.

        Raises `RelayError` when the relay refuses it. After `timeout` seconds, raises `RateLimitedError` when its
        last answer was `rate-limited`, else `NotAcknowledgedError`. When every caller is cancelled, the event is not
        sent again.

        With `once`, `RateLimitedError` is raised as soon as the relay says so, or when other events are held back for
        that already; `RelayError` as soon as it has refused our key; and `ConnectionLostError` when the connection
        ends before an answer.
        """
        if self._closed:
            raise RelayError(f"{self._url} was closed")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[m.Ok] = loop.create_future()
        until = loop.time() + timeout
        if self._timer is None or until < self._timer.when():
            self._look_at(until)
        publication = self._open.get(event.id)
        if publication is None and once and self._pacer.busy:
            raise RateLimitedError(f"{self._url} takes no more just now: {self._slowed}")
        if publication is not None:
            publication.once &= once
            publication.waiting.append((answer, until))
        else:
            publication = _Publication(m.encode(m.EventMessage(event)), once, [(answer, until)])
            self._open[event.id] = publication
            if self._pacer.busy:
                self._pacer.hold(event.id)
            elif (pending := self._write(publication)) is not None:
                # In the background: a relay that does not read must not keep the caller beyond its timeout.
                sending = asyncio.ensure_future(pending)
                self._sending.add(sending)
                sending.add_done_callback(self._sending.discard)
        try:
            ok = await answer
        except asyncio.CancelledError:
            self._withdraw(event.id, answer)
            raise
        if not ok.accepted:
            raise RelayError(f"{self._url} refused an event: {ok.message}")
        return ok

    async def opened(self) -> None:
        """The connection is new: send everything unanswered, except what is held back after `rate-limited`."""
        self._connected = True
        for event_id, publication in list(self._open.items()):
            if event_id not in self._pacer and (pending := self._write(publication)) is not None:
                await pending

    def lost(self) -> None:
        """The connection is gone."""
        self._connected, self._shut_out = False, ""
        for event_id, publication in list(self._open.items()):
            if publication.once:
                lost = f"the connection to {self._url} was lost before it answered"
                self._give_up(event_id, ConnectionLostError(lost, may_have_arrived=publication.unanswered))

    async def authenticated(self) -> None:
        """The relay accepted our key: send everything again."""
        self._shut_out = ""
        for publication in list(self._open.values()):
            if (pending := self._write(publication)) is not None:
                await pending

    def shut_out(self, said: str) -> None:
        """The relay refused our key, and says why. Publications with `once` that wait for that alone fail."""
        self._shut_out = said
        for event_id, publication in list(self._open.items()):
            if publication.once and publication.refusal and not publication.unanswered:
                self._give_up(event_id, self._not_let_in())

    def answered(self, ok: m.Ok) -> None:
        """The relay answered a publication."""
        publication = self._open.get(ok.event_id)
        if publication is None:
            # Its callers were cancelled, or their time was over. A round may still wait for this answer.
            self._pacer.answered(ok.event_id, refused=False)
            return
        reason = ok.message.partition(":")[0] if ok.message else ""
        refused = not ok.accepted and reason == "rate-limited"
        publication.unanswered = False
        self._pacer.answered(ok.event_id, refused=refused)
        if refused:
            publication.refusal = self._slowed = ok.message
            if publication.once:
                self._give_up(ok.event_id, RateLimitedError(f"{self._url} refused an event: {ok.message}"))
            return
        # It is sent again by `authenticated`.
        if not ok.accepted and reason == "auth-required" and self._has_key:
            publication.refusal = ok.message
            if publication.once and self._shut_out:
                self._give_up(ok.event_id, self._not_let_in())
            return
        del self._open[ok.event_id]
        said = m.Ok(ok.event_id, True, ok.message) if reason == "duplicate" else ok
        for answer, _ in publication.waiting:
            if not answer.done():
                answer.set_result(said)

    async def close(self) -> None:
        """Fail the publications that wait, and later ones, with `RelayError`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for publication in self._open.values():
            closed = f"{self._url} was closed before it answered"
            for answer, _ in publication.waiting:
                _fail(answer, RelayError(closed, may_have_arrived=publication.unanswered))
        await self._pacer.close()
        await end(*self._sending)

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        """Fail the callers whose time is over, and forget publications that nobody waits for any more."""
        now, self._timer = asyncio.get_running_loop().time(), None
        for event_id, publication in list(self._open.items()):
            slowed = self._slowed if event_id in self._pacer else ""
            for answer, until in publication.waiting:
                if until <= now:
                    _fail(answer, self._late(publication, slowed))
            publication.waiting = [one for one in publication.waiting if not one[0].done()]
            if not publication.waiting:
                del self._open[event_id]
        ends = [until for publication in self._open.values() for _, until in publication.waiting]
        if ends:
            self._look_at(min(ends))

    def _late(self, publication: _Publication, slowed: str) -> NotAcknowledgedError:
        said, may_have = publication.refusal, publication.unanswered
        if said.startswith("auth-required:") and self._shut_out:
            return NotAcknowledgedError(str(self._not_let_in()), may_have_arrived=may_have)
        if slowed or said.startswith("rate-limited:"):
            return RateLimitedError(f"{self._url} refused an event: {slowed or said}", may_have_arrived=may_have)
        return NotAcknowledgedError(f"{self._url} did not acknowledge an event in time", may_have_arrived=may_have)

    def _not_let_in(self) -> RelayError:
        return RelayError(f"{self._url} refused our key: {self._shut_out}")

    def _give_up(self, event_id: str, error: RelayError) -> None:
        for answer, _ in self._open.pop(event_id).waiting:
            _fail(answer, error)

    def _withdraw(self, event_id: str, answer: asyncio.Future[m.Ok]) -> None:
        """One caller no longer waits; the event is forgotten when it was the last."""
        publication = self._open.get(event_id)
        if publication is None:
            return
        publication.waiting = [one for one in publication.waiting if one[0] is not answer]
        if not publication.waiting:
            del self._open[event_id]

    async def _send_again(self, event_id: str) -> bool:
        publication = self._open.get(event_id)
        if publication is None:
            return False
        if (pending := self._write(publication)) is not None:
            await pending
        return True

    def _write(self, publication: _Publication) -> Awaitable[None] | None:
        """Write the event's frame; returns what to wait for when the relay reads too slowly to take it now."""
        publication.unanswered |= self._connected
        return self._send(publication.frame)


def _fail(answer: asyncio.Future[m.Ok], error: RelayError) -> None:
    if not answer.done():
        answer.set_exception(error)
        # Marks the exception as retrieved: the caller may be gone, and asyncio would log it.
        answer.exception()
