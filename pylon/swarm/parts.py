"""The parts of a swarm client and their wiring: first the deciders, then the edges that tell them what they see.

    relays ── Presence ──── Outlook ──┐                             ┌── Requests ── Outbox ── relays
    relays ── RelayWatch ─────────────┼── Deciders ── Conductor ────┼── OpenRuns ── whoever asked
    relays ── Inbox ── Answers ───────┘                             └── Flights
                          │
                          └── Settling ── the purse

Edges are given the deciders; `Conductor` is given the edges, and carries out there what the deciders command. Parts
below those that they report to are given a function instead: `Presence`, `Flights` and `LateReceipts`.
"""

import random

from pylon.clock import Clock
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.checks.rescoring import Rescorer
from pylon.swarm.conductor import Conductor
from pylon.swarm.flights import Flights
from pylon.swarm.outlook import Outlook
from pylon.swarm.providers.presence import Presence
from pylon.swarm.providers.reach import Reach
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.runs.open_runs import OpenRuns
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.spending.purse import Purse
from pylon.swarm.spending.receipts import LateReceipts
from pylon.swarm.transport import Transport
from pylon.swarm.wire.answers import Answers
from pylon.swarm.wire.inbox import Inbox
from pylon.swarm.wire.outbox import Outbox
from pylon.swarm.wire.publishing import Publisher
from pylon.swarm.wire.relay_watch import RelayWatch
from pylon.swarm.wire.requests import Requests
from pylon.swarm.wire.routes import Routes


class Parts:
    """See the module. Nothing runs before `Upkeep` starts it."""

    def __init__(
        self,
        pool: Transport,
        secret: SecretKey,
        settings: SwarmSettings,
        *,
        keys: ConversationKeys,
        clock: Clock,
        rng: random.Random,
        purse: Purse | None,
        reputation: Reputation,
        rescorer: Rescorer | None,
        reach: Reach | None,
    ) -> None:
        self.pool = pool
        self.clock = clock
        self.purse = purse
        self.reach = reach
        self.deciders = deciders = Deciders(settings, clock, rng, pool.urls, reputation)
        self.flights = flights = Flights(deciders.dispatcher.is_open)
        self.runs = runs = OpenRuns(settings, deciders, flights, clock)
        self.outlook = outlook = Outlook(deciders, clock, purse=purse, reach=reach)
        self.outbox = Outbox(settings.publishing)
        self.relays = relays = RelayWatch(pool, clock, deciders)
        routes = Routes(pool, rng, deciders.dispatcher, reach)
        self.requests = requests = Requests(
            pool=pool, secret=secret, keys=keys, clock=clock, rng=rng, deciders=deciders, runs=runs, flights=flights,
            outbox=self.outbox, purse=purse, routes=routes,
            publisher=Publisher(pool, deciders, routes, relays),
        )  # fmt: skip
        self.answers = answers = Answers(
            deciders=deciders, clock=clock, runs=runs, flights=flights, outlook=outlook, purse=purse,
            rescorer=rescorer,
        )  # fmt: skip
        self.conductor = Conductor(
            deciders=deciders, pool=pool, flights=flights, runs=runs, outlook=outlook, requests=requests,
            answers=answers,
        )  # fmt: skip
        self.inbox = Inbox(
            pool=pool, keys=keys, public=secret.public, clock=clock, flights=flights, answers=answers,
            requests=requests, relays=relays,
        )  # fmt: skip
        self.presence = Presence(pool, deciders.directory, keys, clock, outlook.changed, deciders.known)
        self.late = (
            None if purse is None else LateReceipts(pool, purse, keys, secret.public, flights.awaits, answers.booked)
        )
