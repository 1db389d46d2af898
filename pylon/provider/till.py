"""The till: asks for payment, and lets a customer's jobs run when the money is there.

At most one invoice a customer is open; its other jobs wait behind it, and each is told of it: events get lost, and
whoever comes back must be able to pay. What was paid is learned by looking it up: when the wallet gives a hint, and
every few seconds while anything is waited for.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pylon import log
from pylon.clock import Clock
from pylon.forever import forever
from pylon.jobs.codes import ErrorCode
from pylon.money import invoice_store
from pylon.money.account import AskTopUp, Decision, Run, TooMuch, WaitForTopUp
from pylon.money.invoice_store import Issued
from pylon.money.receiver import EXPIRY_S, GRACE_S, PACE_S, Credited, ReceiveCode, ReceiveError, Receiver
from pylon.money.wallet import Wallet, WalletError
from pylon.provider.behind import Misfit, behind, give_up, unpaid
from pylon.provider.journal import JobState
from pylon.provider.newcomers import Newcomers
from pylon.provider.queue import Job
from pylon.provider.replies import Replies
from pylon.provider.settlement import AccountSettlement
from pylon.store.database import Database

logger = log.get("provider")

# While somebody waits, and while nobody does.
CHECK_S, IDLE_CHECK_S = 2.0, 30.0
TICK_S = 0.5
# As long as one invoice may be paid: whoever has not by then will not.
PATIENCE_S = EXPIRY_S + GRACE_S
# Nobody is told of an invoice that is about to run out: wallets refuse those.
LEAST_LEFT_S = 45.0
# An invoice is kept so long before another takes its place: a wallet keeps each for ever.
KEEP_INVOICE_S = 10.0


class Till:
    """`run` puts a job that may run into the queue; `most` jobs of customers that never paid may wait."""

    def __init__(
        self,
        database: Database,
        receiver: Receiver,
        wallet: Wallet,
        settlement: AccountSettlement,
        replies: Replies,
        clock: Clock,
        run: Callable[[Job], None],
        most: int,
    ) -> None:
        # Whether the wallet failed to answer last time: paid work is refused meanwhile, never done for free.
        self.down = False
        self._database = database
        self._receiver = receiver
        self._wallet = wallet
        self._settlement = settlement
        self._replies = replies
        self._clock = clock
        self._run = run
        self._most = most
        self._waiting: dict[str, dict[str, Job]] = {}
        # Set when the first job waits, or the wallet is down: until then there is next to nothing to look at.
        self._woken = asyncio.Event()
        # Whoever decides about a job that waits has it alone until memory says what is on disk: nothing is both taken
        # back and run, and no two ask for a payment.
        self._turn = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        # When the wallet was last asked (monotonic).
        self._checked = 0.0
        # One invoice a customer at a time is being made, before there is a row that says so.
        self._asking: dict[str, asyncio.Task[None]] = {}
        # What jobs that wait were told to pay.
        self._told: dict[str, Issued] = {}
        # Jobs that wait whose customers have never paid, and those of them for which no invoice may be made yet.
        self._newcomers, self._line = Newcomers(), Newcomers()
        # Of these, whose turn it is.
        self._turn_of = ""
        # Jobs that make room for others.
        self._crowded_out: set[str] = set()
        # Customers of whom a job has gone that may have been the one whose invoice is open.
        self._left: set[str] = set()
        # Those whose open invoice is no waiting job's, and has to give way to another.
        self._misfits: set[str] = set()

    @property
    def waiting(self) -> int:
        """Jobs that wait for a payment."""
        return sum(len(jobs) for jobs in self._waiting.values())

    def of_customer(self, customer: str) -> int:
        """How many of them are this customer's."""
        return len(self._waiting.get(customer, ()))

    def has(self, job_id: str) -> bool:
        """Whether this job waits here."""
        return any(job_id in jobs for jobs in self._waiting.values())

    async def start(self) -> None:
        """Looks up what was paid while nobody was here, then listens."""
        await self._check(at_start=True)
        self._checked = self._clock.monotonic()
        self._tasks = [
            asyncio.create_task(forever(self._listen, "till hints"), name="till hints"),
            asyncio.create_task(forever(self._watch, "till"), name="till"),
        ]

    async def close(self) -> None:
        """Stops. What waits stays in the journal."""
        tasks = [*self._tasks, *self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def restore(self, job: Job) -> None:
        """A job that waited when the last process ended."""
        async with self._turn:
            await self._decide(job)

    async def handle(self, job: Job, decision: Decision) -> None:
        """Does what was decided about a job that the journal has."""
        would_wait = isinstance(decision, AskTopUp | WaitForTopUp) and not self._waits(job)
        # Keys cost nothing. Whoever has paid once is no part of a flood of them.
        if would_wait and not await invoice_store.has_paid(self._database, job.request.customer):
            if not self._makes_room():
                reason = f"{len(self._newcomers)} jobs of new customers wait for payments here"
                await self._write_end(job, JobState.FAILED, ErrorCode.BUSY, reason)
                return
            self._newcomers.add(job)
        match decision:
            case Run():
                self._forget(job)
                self._run(job)
            case TooMuch():
                await self._write_end(
                    job, JobState.FAILED, ErrorCode.CREDIT_EXHAUSTED, "this costs more than is kept here"
                )
            case AskTopUp() if not self._is_asking(job):
                self._wait(job)
                if job.id in self._newcomers and len(self._line) and job.request.customer != self._turn_of:
                    self._stand_in_line(job)
                    return
                # The wallet may take its time; who comes next must not wait for it.
                self._asking[job.request.customer] = asyncio.create_task(self._ask(job, decision))
            case WaitForTopUp() if not self._is_asking(job):
                self._wait(job)
                await self._show_open(job, decision)
            case _:
                self._wait(job)
                # It hears that the job is not lost, and of the invoice once that is made.
                self._replies.processing(job.request, job.relay)

    def _makes_room(self) -> bool:
        """Whether there is room for a customer that has never paid, if another has to go for it."""
        if len(self._newcomers) < self._most:
            return True
        oldest = self._newcomers.makes_room(self._clock.wall())
        if oldest is None:
            return False
        # It hears so with those that are late. What it pays all the same is credit.
        self._newcomers.remove(oldest.id)
        self._crowded_out.add(oldest.id)
        return True

    def _stand_in_line(self, job: Job) -> None:
        if self._waits(job) and self._line.add(job):
            self._replies.processing(job.request, job.relay, PACE_S * self._line.relays)

    def _is_asking(self, job: Job) -> bool:
        return job.request.customer in self._asking

    async def cancel(self, job_id: str, customer: str) -> None:
        """Lets a waiting job go, if it is this customer's. An invoice that was paid meanwhile becomes credit."""
        job = self._waiting.get(customer, {}).get(job_id)
        if job is not None:
            await self._end(job, JobState.CANCELLED, ErrorCode.CANCELLED, "")

    async def _show_open(self, job: Job, decision: WaitForTopUp) -> None:
        async with self._database.transaction() as tx:
            found = await behind(tx, job, decision, payable_until=self._clock.wall() + LEAST_LEFT_S)
        if isinstance(found, Misfit):
            self._misfits.add(job.request.customer)
        if isinstance(found, Issued) and found.expires_at >= self._clock.wall() + LEAST_LEFT_S:
            self._show(job, found)
        else:
            # It has ended, is about to, or gives way to another.
            self._replies.processing(job.request, job.relay)

    def _show(self, job: Job, issued: Issued) -> None:
        told = self._told.get(job.id)
        if self._waits(job) and (told is None or told.payment_hash != issued.payment_hash):
            self._told[job.id] = issued
            self._replies.payment_required(job.request, job.relay, issued.amount, issued.invoice)

    async def _ask(self, job: Job, decision: AskTopUp) -> None:
        try:
            await self._issue(job, decision)
        except Exception:
            # The job waits, and without an open invoice it is decided on anew.
            logger.exception("a payment could not be asked for", job=job.id)
        finally:
            del self._asking[job.request.customer]

    async def _issue(self, job: Job, decision: AskTopUp) -> None:
        seconds = int(job.terms.expires_at - self._clock.wall())
        try:
            issued = await self._receiver.prepare(
                job.request.customer,
                job.id,
                decision.amount,
                description="work on a job",
                expiry_s=max(60, min(EXPIRY_S, seconds)),
            )
            async with self._database.transaction() as tx:
                await self._receiver.record(tx, issued)
        except ReceiveError as error:
            await self._not_asked(job, error)
            return
        self.down = False
        self._line.served(job.id)
        for other in self._of(job.request.customer):
            self._line.remove(other.id)
        if not self._waits(job):
            # It was taken back meanwhile: this becomes another's.
            self._left.add(job.request.customer)
            return
        self._show(job, issued)
        for other in self._of(job.request.customer):
            self._show(other, issued)

    async def _not_asked(self, job: Job, error: ReceiveError) -> None:
        if error.code is ReceiveCode.TOPUP_OPEN:
            # Another job was a moment faster.
            self._left.add(job.request.customer)
            return
        if error.code is ReceiveCode.TOO_MANY:
            self._stand_in_line(job)
            return
        logger.warning("no invoice was made", job=job.id, code=error.code.value, error=str(error))
        if error.code is ReceiveCode.JOB_HAD_INVOICE:
            had = await invoice_store.of_job(self._database, job.id)
            if had is not None and had.state == "expired":
                await self._time_out(job)
                return
            # What was paid is credit; its customer asks again with a new request.
            await self._end(job, JobState.FAILED, ErrorCode.CREDIT_EXHAUSTED, "ask again with a new request")
            return
        self.down = True
        self._woken.set()
        await self._end(job, JobState.FAILED, ErrorCode.PAUSED, "wallet")

    async def _time_out(self, job: Job) -> None:
        reason = unpaid(job, self._told.get(job.id))
        await self._end(job, JobState.EXPIRED, ErrorCode.PAYMENT_TIMEOUT, reason)

    async def _end(self, job: Job, state: JobState, code: ErrorCode, reason: str) -> None:
        """Lets a job go that waits, unless it was paid for or has ended meanwhile."""
        async with self._turn:
            if self._waits(job):
                await self._write_end(job, state, code, reason)

    async def _write_end(self, job: Job, state: JobState, code: ErrorCode, reason: str) -> None:
        await self._settlement.end(job.id, state, code=code.value, finished_at=self._clock.wall())
        self._forget(job)
        self._left.add(job.request.customer)
        if state is not JobState.CANCELLED:
            request = job.request
            self._replies.refuse(request.customer, request.id, request.private, job.relay, code, reason)

    def _wait(self, job: Job) -> None:
        self._waiting.setdefault(job.request.customer, {})[job.id] = job
        self._woken.set()

    def _waits(self, job: Job) -> bool:
        return job.id in self._waiting.get(job.request.customer, ())

    def _of(self, customer: str) -> list[Job]:
        return list(self._waiting.get(customer, {}).values())

    def _forget(self, job: Job) -> None:
        self._told.pop(job.id, None)
        self._newcomers.remove(job.id)
        self._line.remove(job.id)
        self._crowded_out.discard(job.id)
        jobs = self._waiting.get(job.request.customer)
        if jobs is not None:
            jobs.pop(job.id, None)
            if not jobs:
                del self._waiting[job.request.customer]

    async def _listen(self) -> None:
        async for hint in self._wallet.events():
            try:
                credited = await self._receiver.look_up(hint.payment_hash)
            except (WalletError, ReceiveError) as error:
                logger.warning("a payment could not be looked up", payment=hint.payment_hash, error=str(error))
                continue
            if credited is not None:
                await self._credited(credited)

    async def _watch(self) -> None:
        if self._waiting or self.down:
            await asyncio.sleep(TICK_S)
        else:
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._checked + IDLE_CHECK_S - self._clock.monotonic())):
                    await self._woken.wait()
        now = self._clock.wall()
        late = [job for jobs in self._waiting.values() for job in jobs.values() if self._is_late(job, now)]
        for job in late:
            await self._time_out(job)
        due = CHECK_S if self._waiting or self.down else IDLE_CHECK_S
        if self._clock.monotonic() - self._checked >= due:
            await self._check()
            self._checked = self._clock.monotonic()

    async def _check(self, *, at_start: bool = False) -> None:
        was_down = self.down
        try:
            if was_down:
                # Where no invoice is due the receiver asks nobody, and hears nothing wrong.
                await self._wallet.info()
            credited = await self._receiver.check(at_start=at_start)
            if was_down:
                self.down = False
        except WalletError as error:
            logger.warning("the wallet does not answer; paid work is paused", error=str(error))
            self.down = True
            return
        for item in credited:
            await self._credited(item)
        await self._next_in_line()
        in_line = {job.request.customer for job in self._line}
        for customer in self._waiting.keys() - self._asking.keys() - in_line:
            issued = await invoice_store.open_of(self._database, customer)
            if issued is None:
                # It ran out unpaid: the next job in line asks anew.
                await self._take_again(customer)
                continue
            if customer in self._left:
                self._left.discard(customer)
                await self._take_again(customer)
            if customer in self._misfits and self._clock.wall() >= issued.created_at + KEEP_INVOICE_S:
                await self._replace(issued)
        self._left &= self._waiting.keys()
        self._misfits &= self._waiting.keys()

    async def _next_in_line(self) -> None:
        job = self._line.next()
        if job is not None and not self._is_asking(job):
            self._turn_of = job.request.customer
            try:
                await self._take_again(self._turn_of)
            finally:
                self._turn_of = ""

    async def _replace(self, issued: Issued) -> None:
        """Lets another invoice take the place of one that no job of its customer waits for."""
        try:
            credited = await self._receiver.look_up(issued.payment_hash)
        except (WalletError, ReceiveError) as error:
            logger.warning("an invoice could not be looked up", payment=issued.payment_hash, error=str(error))
            return
        self._misfits.discard(issued.customer)
        if credited is not None:
            await self._credited(credited)
            return
        async with self._database.transaction() as tx:
            await give_up(tx, issued, self._clock.wall())
        await self._take_again(issued.customer)

    async def _credited(self, credited: Credited) -> None:
        logger.info("paid", customer=credited.customer, msat=int(credited.amount), late=credited.late)
        for job in self._of(credited.customer):
            self._newcomers.remove(job.id)
        await self._take_again(credited.customer, first=credited.job)

    async def _take_again(self, customer: str, *, first: str = "") -> None:
        # Whoever asked for what was paid comes first: it gets no second invoice.
        for job in sorted(self._of(customer), key=lambda job: job.id != first):
            # A turn a job, so that who takes one back does not wait for all of them.
            async with self._turn:
                if self._waits(job):
                    await self._decide(job)

    async def _decide(self, job: Job) -> None:
        decision = await self._settlement.decide(job)
        if decision is None:
            self._forget(job)
        else:
            await self.handle(job, decision)

    def _is_late(self, job: Job, now: float) -> bool:
        return job.id in self._crowded_out or now >= min(job.terms.expires_at, job.received_at + PATIENCE_S)
