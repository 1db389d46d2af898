"""A modelled provider: the shipped admission, customers, queue and account, with an engine that only takes time."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache

from pylon.bench.simulation.messages import Invoice, Processing, Refusal, Reply, Result, SentRequest
from pylon.bench.simulation.network import url
from pylon.bench.simulation.sizes import MAX_TOKENS, MODEL
from pylon.bench.simulation.world import World
from pylon.jobs.announcement import Announcement, announcement_draft
from pylon.jobs.codes import ErrorCode
from pylon.jobs.heartbeat import EXPIRY_S, INTERVAL_S, Heartbeat, heartbeat_draft
from pylon.money.accounts import account as ledger
from pylon.money.accounts.account import TRIAL_DAY, Account, AskTopUp, Basis, Run, Terms, TooMuch, Trial
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.nostr.event import Event, EventDraft
from pylon.provider.admission import Accept, Load, Refuse, admit
from pylon.provider.customers import Customers, Standing
from pylon.provider.queue import Job, JobQueue
from pylon.provider.settings import ProviderSettings

STRANGERS = Terms(trial=True)
PROMPT_TOKENS = 80
SLOWNESS = 10.0


class Behaviour(StrEnum):
    """How a provider behaves."""

    HONEST = "honest"
    SLOW = "slow"  # takes ten times what it advertises
    SILENT = "silent"  # says that it is processing the job, and nothing more
    UNREADABLE = "unreadable"  # sends answers that cannot be read
    WRONG = "wrong"  # answers at once, and wrongly
    OVERCHARGES = "overcharges"  # works, and books ten times the price


LIARS = (Behaviour.SILENT, Behaviour.UNREADABLE, Behaviour.WRONG)


@lru_cache(maxsize=64)
def _announcement_draft(announcement: Announcement) -> EventDraft:
    # Cached: free providers differ in their key only.
    return replace(announcement_draft(announcement, created_at=0), created_at=None)


class Machine:
    """One provider. `job_s` is the seconds of a job that it advertises, `relays` are numbers of relays."""

    def __init__(
        self, world: World, behaviour: Behaviour, settings: ProviderSettings, job_s: float, relays: tuple[int, ...]
    ) -> None:
        self.key = world.new_id()
        self.behaviour = behaviour
        self.alive = True
        self.served = 0
        self.earned_msat = 0
        self.settings = settings
        self.relays = relays
        self.job_s = job_s
        self._world = world
        self._queue = JobQueue()
        self._customers = Customers()
        self._asked: dict[str, SentRequest] = {}
        self._running: dict[str, Job] = {}
        self._of_customer: Counter[str] = Counter()
        self._accounts: dict[str, Account] = {}
        self._bases: dict[str, Basis] = {}
        self._unfunded: dict[str, deque[Job]] = {}
        self._trial_left = TRIAL_DAY
        self._beat_at = 0
        # Jobs for which it has sent `processing`.
        self._told: set[str] = set()

    @property
    def true_s(self) -> float:
        """Seconds that a job really takes here."""
        if self.behaviour in (Behaviour.WRONG, Behaviour.UNREADABLE):
            return self.job_s / 4
        return self.job_s * (SLOWNESS if self.behaviour is Behaviour.SLOW else 1.0)

    # --- announcements and heartbeats ---------------------------------------------------------------------------

    def announcement(self) -> Event:
        """Its announcement (31990)."""
        settings = self.settings
        relays = tuple(map(url, self.relays))
        made = Announcement(
            settings.d, "", "", settings.kinds, (MODEL,), settings.price, settings.network, relays, "simulated"
        )
        return self._event(_announcement_draft(made))

    def heartbeat(self) -> Event:
        """Its heartbeat (11998) at this moment."""
        slots = self._world.plan.slots
        waiting = len(self._queue)
        self._beat_at = max(int(self._world.clock.wall), self._beat_at + 1)
        beat = Heartbeat(
            self.settings.d,
            slots=slots,
            slots_free=max(0, slots - len(self._running) - waiting),
            queue_s=round(waiting / slots * self.true_s, 1),
            tokens_out_per_s=round(MAX_TOKENS / self.job_s, 1),
            models=((MODEL.id, MODEL.sha256),),
            expires_at=self._beat_at + EXPIRY_S,
        )
        return self._event(heartbeat_draft(beat, created_at=self._beat_at))

    def beat(self, hear: Callable[[Event], None], readers: int) -> None:
        """Sends a heartbeat now, and one every `INTERVAL_S` from then on. `readers` customers hear each."""
        if not self.alive:
            return
        event = self.heartbeat()
        self._publish_presence("heartbeat", event, self._world.sizes.heartbeat, hear, readers)
        self._world.clock.after(INTERVAL_S, lambda: self.beat(hear, readers))

    def announce(self, hear: Callable[[Event], None], readers: int) -> None:
        """Sends the announcement of a newcomer, then its first heartbeat."""
        self._publish_presence("announcement", self.announcement(), self._world.sizes.announcement, hear, readers)
        self.beat(hear, readers)

    def _publish_presence(
        self, what: str, event: Event, size: int, hear: Callable[[Event], None], readers: int
    ) -> None:
        def delivered(came: bool) -> None:
            if came:
                hear(event)

        self._world.network.publish(self.relays, what, size, readers=readers, delivered=delivered)

    def _event(self, draft: EventDraft) -> Event:
        created_at = draft.created_at if draft.created_at is not None else int(self._world.clock.wall)
        return Event(self._world.new_id(), self.key, created_at, draft.kind, draft.tags, draft.content, "")

    # --- jobs -------------------------------------------------------------------------------------------------

    def take(self, asked: SentRequest) -> None:
        """Takes a request: admits and queues it, asks for payment, or refuses."""
        if not self.alive:
            return
        request, now = asked.request, self._world.clock.wall
        load = self._load(request.customer)
        verdict = admit(request, self.settings, load, provider=self.key, now=now)
        if isinstance(verdict, Refuse):
            self._say(asked, Refusal(verdict.code))
        if not isinstance(verdict, Accept):
            return
        event = Event(request.id, request.customer, request.created_at, request.job.kind, (), "", "")
        job = Job(request, event, verdict, now, "", standing=load.standing)
        self._asked[job.id] = asked
        self._of_customer[request.customer] += 1
        self._world.clock.after(self.settings.processing_after_s, lambda: self._say_processing(job.id))
        if self.behaviour is not Behaviour.SILENT:
            self._fund(job)

    def _load(self, customer: str) -> Load:
        """As `provider.occupancy` counts it."""
        standing = self._customers.standing(customer)
        waiting, others = self._queue.in_line(standing)
        return Load(
            ((MODEL.id, MODEL.sha256),),
            standing=standing,
            waiting=waiting,
            others=others,
            turn_s=others / self._world.plan.slots * self.job_s,
            of_customer=self._of_customer[customer],
            unpaid_of_customer=len(self._unfunded.get(customer, ())),
        )

    def cancel(self, job_id: str) -> None:
        """Drops a job that its customer cancelled."""
        if (job := self._queue.remove(job_id)) is not None:
            self._drop(job)
        elif (job := self._running.pop(job_id, None)) is not None:
            self._drop(job, wasted=True)
            self._work()

    def die(self) -> None:
        """Falls silent. Its jobs are lost."""
        self.alive = False

    def _fund(self, job: Job) -> None:
        customer, quote = job.request.customer, job.terms.quote
        account = self._accounts.get(customer)
        if account is None:
            account = self._accounts[customer] = Account(epoch=f"{len(self._accounts):016x}")
        decision = ledger.admit(
            account,
            STRANGERS,
            quote,
            wish=job.request.job.topup,
            trial=Trial(),
            trial_left_today=self._trial_left,
        )
        match decision:
            case Run(basis):
                self._accounts[customer] = ledger.hold(account, quote, basis)
                self._bases[job.id] = basis
                if basis is Basis.TRIAL:
                    self._trial_left = self._trial_left - quote
                # As `provider.payments.payment_gate` has it: who pays ahead does not wait among strangers.
                paid = basis is Basis.PREPAID and job.standing is Standing.STRANGER
                self._queue.push(replace(job, standing=Standing.RECENT) if paid else job)
                self._work()
                if self._wait_s(job.id) >= self.settings.processing_after_s:
                    self._say_processing(job.id)
            case AskTopUp(amount):
                self._accounts[customer] = replace(account, topup_open=True)
                self._unfunded.setdefault(customer, deque()).append(job)
                self._say(self._asked[job.id], Invoice(amount))
            case TooMuch():
                self._say(self._asked.pop(job.id), Refusal(ErrorCode.CREDIT_EXHAUSTED))
                self._of_customer[customer] -= 1
            case _:
                self._unfunded.setdefault(customer, deque()).append(job)
                self._say(self._asked[job.id], Processing())

    def credit(self, customer: str, amount: Msat) -> None:
        """Books a payment; jobs that waited for it are admitted anew."""
        account = self._accounts.get(customer)
        if account is None or not self.alive:
            return
        self._accounts[customer] = replace(ledger.credit(account, amount), topup_open=False)
        waiting, now = self._unfunded.pop(customer, deque()), self._world.clock.wall
        for job in waiting:
            if job.terms.expires_at > now:
                self._fund(job)
            else:
                self._drop(job)

    def _work(self) -> None:
        clock = self._world.clock
        while len(self._running) < self._world.plan.slots:
            job = self._queue.pop()
            if job is None:
                return
            if job.terms.expires_at <= clock.wall:
                self._drop(job)
                continue
            self._running[job.id] = job
            seconds = self.true_s * self._world.spread(self._world.plan.uneven)
            clock.after(seconds, lambda job=job: self._done(job))  # type: ignore[misc]

    def _done(self, job: Job) -> None:
        if not self.alive or self._running.pop(job.id, None) is None:
            return
        self._world.tally.ran += 1
        asked = self._asked.pop(job.id)
        self._told.discard(job.id)
        self._of_customer[job.request.customer] -= 1
        if self.behaviour is Behaviour.UNREADABLE:
            self._release(job)
            self._say(asked, Refusal(None))
        else:
            self._say(asked, self._result(job))
        self._work()

    def _result(self, job: Job) -> Result:
        customer, basis = job.request.customer, self._bases.pop(job.id)
        used = min(self.settings.price.charge(PROMPT_TOKENS, MAX_TOKENS), job.terms.quote)
        account, receipt = ledger.charge(self._accounts[customer], job.terms.quote, basis, used)
        if self.behaviour is Behaviour.OVERCHARGES:
            more = 9 * used + 1
            account = replace(account, charged_total=account.charged_total + more)
            receipt = replace(
                receipt, charge_msat=receipt.charge_msat + more, charged_total=receipt.charged_total + more
            )
        self._accounts[customer] = account
        self._customers.served(customer, self._world.clock.wall)
        usage = Usage(PROMPT_TOKENS, MAX_TOKENS)
        return Result(usage, receipt if self._world.plan.paid else None, right=self.behaviour is not Behaviour.WRONG)

    def _drop(self, job: Job, *, wasted: bool = False) -> None:
        self._asked.pop(job.id, None)
        self._told.discard(job.id)
        self._of_customer[job.request.customer] -= 1
        if wasted and job.terms.quote:
            self._customers.wasted(job.request.customer)
        self._release(job, wasted=wasted)

    def _release(self, job: Job, *, wasted: bool = False) -> None:
        basis = self._bases.pop(job.id, None)
        if basis is not None:
            customer = job.request.customer
            account = self._accounts[customer]
            self._accounts[customer] = ledger.release(account, job.terms.quote, basis, wasted=wasted)

    def _say_processing(self, job_id: str) -> None:
        asked = self._asked.get(job_id)
        if asked is not None and self.alive and job_id not in self._told:
            self._told.add(job_id)
            wait_s = None if self.behaviour is Behaviour.SILENT else self._wait_s(job_id)
            self._say(asked, Processing(wait_s))

    def _wait_s(self, job_id: str) -> float:
        return self._queue.wait_s(job_id, self._world.plan.slots, self.job_s)

    def _say(self, asked: SentRequest, reply: Reply) -> None:
        sizes = self._world.sizes
        match reply:
            case Result():
                what, size = "result", sizes.result
            case Invoice():
                what, size = "invoice", sizes.invoice
            case _:
                what, size = "feedback", sizes.feedback

        def delivered(came: bool) -> None:
            (asked.reply if came else asked.stored)(asked.request.id, reply)

        self._world.network.publish(asked.relays, what, size, delivered=delivered)
