"""A modelled customer: the shipped directory, dispatcher and flights, driven as `swarm.client` drives them."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pylon.bench.simulation.books import Books
from pylon.bench.simulation.messages import Invoice, Processing, Refusal, Reply, Result, SentRequest
from pylon.bench.simulation.network import OK_BYTES, url
from pylon.bench.simulation.replay import Input, RecordedAnswers, deciders, replayed
from pylon.bench.simulation.sizes import MAX_TOKENS, PROMPT_BYTES
from pylon.bench.simulation.world import Cost, World
from pylon.jobs.codes import ErrorCode
from pylon.jobs.kinds import RLM_REQUEST
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.msat import Msat
from pylon.nostr.event import Event
from pylon.swarm.circle import Circle
from pylon.swarm.compose import bounds_of, job_of
from pylon.swarm.dispatch import messages as m
from pylon.swarm.flights import WORD_DUE_S, Flight, Flights
from pylon.swarm.job import JobSpec
from pylon.swarm.providers.directory import Change, ProviderUp
from pylon.swarm.providers.presence import CHUNK
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.upkeep import LOOK_S, TICK_S
from pylon.swarm.wire.looks import Looks

# Processor seconds of a customer for each message that it encrypts or decrypts: an assumption, near what
# `pylon bench fanout` shows.
SEAL_S = 0.000_7


class Customer:
    """One customer. With a `bid` of zero it asks free providers only, and keeps no accounts.

    With `recorded`, `recording` holds what its deciders were told, for a `Replay`.
    """

    def __init__(self, world: World, bid: Msat, *, recorded: bool) -> None:
        self.recording: list[Input] | None = [] if recorded else None
        self.key = world.new_id()
        self.begun_at = 0.0
        self._world = world
        self._settings = SwarmSettings(bid=bid)
        self.seed = world.rng.getrandbits(64)
        self._directory, self._dispatcher = deciders(world.plan, self.seed)
        self._flights = Flights()
        self._books = Books(world, bid) if bid else None
        self._spec = JobSpec("x" * PROMPT_BYTES, max_tokens=MAX_TOKENS)
        self._bounds = bounds_of(self._spec)
        self._busy_until = 0.0
        # Replies whose live push was lost, by request: a query of stored events finds them.
        self._missed: dict[str, Reply] = {}
        self._looks = Looks()

    @property
    def open(self) -> int:
        """Jobs without an outcome."""
        return self._dispatcher.open

    def begin(self, jobs: int, *, deadline_s: float) -> None:
        """Starts a map of this many jobs. `deadline_s` is seconds from now."""
        deadline = self._world.clock.now + deadline_s
        anybody = Circle()
        asked = (job_of(n, self._spec, self._settings, anybody, deadline=deadline) for n in range(jobs))
        self._handle(m.Add(tuple(asked)))
        self._tick()
        self._look()

    def hear(self, event: Event) -> None:
        """Takes an announcement or a heartbeat."""
        cost = self._world.cost
        started = Cost.clock()
        out: list[m.DispatchCommand] = []
        changes = [self._with_width(change) for change in self._directory.observe(event, self._world.clock.wall)]
        for change in changes:
            out += self._dispatcher.handle(change, self._world.clock.now)
        cost.beat_ns += Cost.clock() - started
        cost.beats += 1
        self._record(event, *changes)
        self._carry_out(out)

    def miss(self, relays: frozenset[str]) -> None:
        """Learns that these relays are gone."""
        self._handle(m.RelaysDown(relays))

    # --- the decider's commands -------------------------------------------------------------------------------

    def _handle(self, event: m.SwarmEvent) -> None:
        cost = self._world.cost
        started = Cost.clock()
        out = self._dispatcher.handle(event, self._world.clock.now)
        cost.decide_ns += Cost.clock() - started
        cost.commands += len(out)
        self._record(None, event)
        self._carry_out(out)

    def _record(self, heard: Event | None, *events: m.SwarmEvent) -> None:
        if self.recording is not None:
            told = tuple(map(replayed, events))
            self.recording.append(Input(self._world.clock.now, self._world.clock.wall, heard, told))

    def _carry_out(self, commands: list[m.DispatchCommand]) -> None:
        tally = self._world.tally
        for command in commands:
            match command:
                case m.Send():
                    self._busy_until = max(self._busy_until, self._world.clock.now) + SEAL_S
                    self._world.clock.at(self._busy_until, lambda send=command: self._send(send))  # type: ignore[misc]
                case m.CancelAttempt(_, attempt, provider):
                    self._cancel(attempt, provider)
                case m.Deliver(slot, _, _):
                    tally.delivered += 1
                    self._settle(slot)
                case m.GiveUp(slot, failure, _, _):
                    tally.failed[failure.value] += 1
                    self._settle(slot)

    def _settle(self, slot: int) -> None:
        tally, now = self._world.tally, self._world.clock.now
        tally.finished_at.append(now - self.begun_at)
        tally.last_at = now
        for flight in self._flights.of_slot(slot):
            self._missed.pop(flight.request, None)
        self._flights.end(slot)

    def _send(self, send: m.Send) -> None:
        if not self._dispatcher.is_live(send.attempt):
            return
        listing = self._directory.get(send.provider)
        if listing is None:
            self._handle(m.Refused(send.attempt, ErrorCode.PAUSED))
            return
        world, now, wall = self._world, self._world.clock.now, self._world.clock.wall
        offer = None
        if self._books is not None:
            offer = self._books.offer(listing, self._bounds, jobs_left=self._dispatcher.open)
        job = JobRequest(
            self._spec.prompt,
            JobParameters(max_tokens=MAX_TOKENS),
            bid=None if offer is None else offer.bid,
            topup=None if offer is None else offer.topup,
            account_seen=None if offer is None else offer.seen,
            expiration=math.ceil(wall + send.expires_at - now),
        )
        machine = world.machines[send.provider]
        again = bool(self._flights.of_slot(send.slot))
        # The first attempt of a job goes over one shared relay, later ones over all.
        relays = machine.relays if again else tuple(n for n in machine.relays if url(n) == send.relay)
        request = ReceivedRequest(world.new_id(), self.key, int(wall), job, True, (send.provider,))
        asked = SentRequest(request, relays, self._heard, self._stored)
        world.tally.sent += 1
        world.tally.hedges += send.hedge
        self._flights.add(
            Flight(request.id, RLM_REQUEST, send.slot, send.attempt, send.provider, int(wall), now, offer)
        )

        # If that relay is gone, the same event goes over all of them.
        once = not again and world.plan.relays > 1

        def taken(accepted: bool) -> None:
            nonlocal once
            if once and not accepted:
                once = False
                publish(machine.relays)
                return
            if accepted:
                self._flights.went_out(send.attempt, world.clock.now)
            self._handle(m.Published(send.attempt) if accepted else m.SendFailed(send.attempt))

        def delivered(came: bool) -> None:
            if came:
                machine.take(asked)

        def publish(over: tuple[int, ...]) -> None:
            size = world.sizes.request
            world.network.publish(over, "request", size, once=once, delivered=delivered, taken=taken)

        publish(relays)

    def _cancel(self, attempt: int, provider: str) -> None:
        flight = self._flights.of_attempt(attempt)
        if flight is None:
            return
        world, machine = self._world, self._world.machines[provider]
        world.tally.cancelled += 1

        def delivered(came: bool) -> None:
            if came:
                machine.cancel(flight.request)

        world.network.publish(machine.relays, "cancel", world.sizes.cancel, delivered=delivered)

    # --- answers ----------------------------------------------------------------------------------------------

    def _heard(self, request: str, reply: Reply) -> None:
        self._looks.answered(self._world.clock.now)
        self._busy_until = max(self._busy_until, self._world.clock.now) + SEAL_S
        self._world.clock.at(self._busy_until, lambda: self._read(request, reply))

    def _stored(self, request: str, reply: Reply) -> None:
        # A result stays, even if an older reply arrives after it.
        if not isinstance(self._missed.get(request), Result):
            self._missed[request] = reply

    def _read(self, request: str, reply: Reply) -> None:
        flight = self._flights.of_request(request)
        if flight is None:
            return
        flight.heard = True
        match reply:
            case Processing(wait_s):
                self._handle(m.Acknowledged(flight.attempt, wait_s))
            case Refusal(code):
                self._handle(m.Refused(flight.attempt, code))
            case Invoice(amount):
                self._bill(flight, amount)
            case Result():
                self._result(flight, reply)

    def _result(self, flight: Flight, result: Result) -> None:
        world = self._world
        if flight.offer is not None and self._books is not None and flight.charge.begin():
            accepted = self._books.accept(flight.offer, flight.request, result)
            self._reconsider(flight.provider)
            if not accepted:
                self._handle(m.Refused(flight.attempt, None))
                return
        delivered = world.tally.delivered
        self._handle(m.Answered(flight.attempt))
        if world.tally.delivered > delivered:
            machine = world.machines[flight.provider]
            machine.served += 1
            machine.earned_msat += 0 if result.receipt is None else result.receipt.charge_msat
            world.tally.wrong += not result.right

    def _bill(self, flight: Flight, amount: Msat) -> None:
        books, offer = self._books, flight.offer
        if books is None or offer is None or flight.charge.invoices or not self._dispatcher.is_live(flight.attempt):
            return
        books.relation(flight.provider).asked = True
        if not books.may_pay(offer, amount):
            self._handle(m.Refused(flight.attempt, None, unpaid=True))
            return
        flight.charge.bill("lnbcrt")
        self._handle(m.Acknowledged(flight.attempt))

        def settled() -> None:
            books.paid(flight.provider, amount)
            self._reconsider(flight.provider)
            self._world.machines[flight.provider].credit(self.key, amount)

        self._world.clock.after(books.payment_s(), settled)

    def _reconsider(self, provider: str) -> None:
        listing = self._directory.get(provider)
        if listing is not None:
            self._handle(self._with_width(ProviderUp(listing)))

    def _with_width(self, change: Change) -> Change:
        if self._books is None or not isinstance(change, ProviderUp):
            return change
        listing, books = change.listing, self._books
        funded: Callable[[], bool] = partial(books.funded, listing)
        if self.recording is not None:
            funded = RecordedAnswers(funded)
        return ProviderUp(replace(listing, width=books.width(listing), funded=funded))

    # --- time -------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        for change in self._directory.expire(self._world.clock.wall):
            self._handle(self._with_width(change))
        self._handle(m.Tick())
        if self.open:
            self._world.clock.after(TICK_S, self._tick)

    def _look(self) -> None:
        now = self._world.clock.now
        if self._looks.is_due(now):
            silent = self._flights.silent(now)
            self._looks.found(len(silent), sum(flight.request in self._missed for flight in silent))
            for at in range(0, len(silent), CHUNK):
                self._look_for(silent[at : at + CHUNK])
        if self.open:
            self._world.clock.after(LOOK_S, self._look)

    def _look_for(self, flights: list[Flight]) -> None:
        requests, asked_at = [flight.request for flight in flights], self._world.clock.now
        found = [request for request in requests if request in self._missed]

        def answered() -> None:
            for request in found:
                reply = self._missed.pop(request, None)
                if reply is not None:
                    self._heard(request, reply)
            for flight in flights:
                if flight.request not in found and not flight.heard and asked_at - flight.sent_at >= WORD_DUE_S:
                    self._handle(m.Unheard(flight.attempt))

        # A filter names the ids it looks for.
        asks = OK_BYTES + 70 * 2 * len(requests)
        self._world.network.query("look", asks, len(found), self._world.sizes.result, answered)
