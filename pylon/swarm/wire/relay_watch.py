"""Tells the dispatcher which relays to use: not those that are down, lose events, refuse requests or shut us out."""

from pylon import log
from pylon.clock import Clock
from pylon.swarm.dispatch import messages as m
from pylon.swarm.flights import Flight
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.transport import Transport
from pylon.swarm.wire.relay_record import RelayRecord
from pylon.swarm.wire.unsent import refusals

logger = log.get("swarm")

# A relay that has been down for this long is not waited for any more: by then no heartbeat that came over it alone is
# recent enough for its provider to count as alive.
GONE_S = 300.0


class RelayWatch:
    """Watches our relays, and tells the deciders `RelaysDown` whenever that changes."""

    def __init__(self, pool: Transport, clock: Clock, deciders: Deciders) -> None:
        self._pool = pool
        self._clock = clock
        self._deciders = deciders
        self._record = RelayRecord()
        # Since when each relay has not been connected, and what the deciders were last told.
        self._since: dict[str, float] = {}
        self._told = m.RelaysDown(frozenset())

    @property
    def unused(self) -> frozenset[str]:
        """The relays that are down or avoided, as the deciders were told last."""
        return self._told.urls

    def look(self) -> None:
        """Sees which relays are connected and not avoided now."""
        now, known, statuses = self._clock.monotonic(), self._since, self._pool.statuses
        since = {one.url: known.get(one.url, now) for one in statuses if one.state != "open"}
        self._since = since
        # Nobody waits for an avoided relay: a provider that is reached over no other is asked there all the same. A
        # relay that is open and has an error does not let our key in (NIP-42).
        shut = [one.url for one in statuses if one.state == "open" and one.error]
        avoided = self._record.avoided(now).union(shut)
        if avoided.union(since).issuperset(self._pool.urls):
            avoided = frozenset()
        gone = frozenset(url for url, began in since.items() if now - began >= GONE_S)
        down = m.RelaysDown(avoided.union(since), gone | (avoided - since.keys()))
        if down != self._told:
            self._told = down
            self._deciders.tell(down)

    def refused(self, relay: str, said: str) -> None:
        """The relay refused a request; `said` is the error's text."""
        now = self._clock.monotonic()
        before = self._record.avoided(now)
        self._record.refused(relay, now, invalid="invalid" in refusals(said))
        if relay in self._record.avoided(now) - before:
            logger.info("a relay refused a request, and is avoided for a minute", relay=relay, error=said)
        self.look()

    def accepted(self, relay: str) -> None:
        """The relay accepted a request."""
        self._record.accepted(relay)

    def silent(self, relay: str) -> None:
        """The relay neither took nor refused a request in time."""
        now = self._clock.monotonic()
        if relay not in self._record.avoided(now):
            logger.info("a relay does not acknowledge requests", relay=relay)
        self._record.silent(relay, now)
        self.look()

    def spoke(self, flight: Flight, relay: str | None) -> None:
        """The first word for a request came over `relay`; None: it was found among what relays have stored."""
        if flight.relay is None:
            return
        if not flight.repeated:
            self._record.delivered(flight.relay)
        elif relay is not None and relay != flight.relay:
            logger.info("a relay lost a request or its answer", relay=flight.relay, provider=flight.provider)
            self._record.lost(flight.relay, self._clock.monotonic())
