"""Random histories of jobs through runner and payment gate over a real database, crashes included.

The engine, the wallet and the relays are stand-ins that do what the history says. Whatever happens at once: every job
has one end, and its customer pays for what it got.
"""

import asyncio
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pylon.errors import EngineFailedError, PromptError
from pylon.inference.engine import Generation, GenerationRequest, Progress
from pylon.jobs.kinds import FEEDBACK
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.jobs.result import Finish, parse_result
from pylon.money import audit
from pylon.money.accounts.account import Terms
from pylon.money.books import ledger
from pylon.money.books.store import book
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.receiver import Credited, ReceiveCode, ReceiveError
from pylon.money.invoices.store import Issued
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.money.schema import MONEY
from pylon.money.states import InvoiceState
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, expiration
from pylon.nostr.keys import SecretKey
from pylon.provider.admission import Accept
from pylon.provider.contents import Contents
from pylon.provider.customers import Customers
from pylon.provider.journal import Journal
from pylon.provider.outbox import Publication
from pylon.provider.payments import payment_watch
from pylon.provider.payments.invoice_issuer import InvoiceIssuer
from pylon.provider.payments.payment_gate import PaymentGate
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal
from pylon.provider.rows import SCHEMA, JobState
from pylon.provider.work.results import Results
from pylon.provider.work.runner import Runner
from pylon.store.database import Database
from pylon.store.group import GroupCommit

US = SecretKey(bytes(31) + b"\x07")
CUSTOMERS = [SecretKey(bytes(31) + bytes([n])) for n in (8, 9)]
# A msat a token of the answer, and one a job.
PRICE = Price(Msat(1), Msat(0), Msat(1_000))
QUOTE = 2_000
ENDS = {"settled", "undelivered", "expired", "cancelled", "failed"}
CHARGED = {"signed", "settled", "undelivered"}
# What may follow from what.
NEXT = {
    "awaiting_funds": {"queued", "signed", *ENDS},
    "queued": {"signed", *ENDS},
    "signed": {"settled", "undelivered"},
    **{end: set() for end in ENDS},
}


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Engine:
    """Answers when it is told to."""

    slots, model = 2, None

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.active_jobs: dict[str, tuple[asyncio.Future[Generation], Any]] = {}

    async def generate(self, request: GenerationRequest, progress: Any) -> Generation:
        self.asked.append(request.id)
        answer = asyncio.get_running_loop().create_future()
        self.active_jobs[request.id] = (answer, progress)
        try:
            return await answer
        finally:
            del self.active_jobs[request.id]


class World:
    """What outlives a process: the database, what was said and published, and who paid."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.results: defaultdict[str, set[str]] = defaultdict(set)
        self.kinds: dict[str, Finish | None] = {}
        self.errors: list[tuple[str, str]] = []
        # What customers were told of jobs that they took back: the ids of these events.
        self.let_off: defaultdict[str, set[str]] = defaultdict(set)
        # Of which processes' answers a job's customer was sent pieces: each has an engine of its own.
        self.pieces: defaultdict[str, set[int]] = defaultdict(set)
        self.engines: list[Engine] = []
        self.hashes = 0

    async def start(self) -> None:
        self.database = await Database.open(self.folder / "a.db", [SCHEMA, MONEY])
        self.group = GroupCommit(self.database)
        self.group.start()
        self.journal = Journal(self.database, self.group)
        policy = CreditPolicy(stranger=Terms(), trial=None)
        self.settlement = AccountSettlement(self.journal, policy)
        self.engine = Engine()
        # Kept, so that no two are told apart by nothing.
        self.engines.append(self.engine)
        self.publications: list[Publication] = []
        self.published = Results(
            secret=US,
            keys=ConversationKeys(US),
            inference=self.engine,
            journal=self.journal,
            settlement=self.settlement,
            outbox=self,
            replies=self,
            clock=self.clock,
            customers=Customers(),
        )
        self.runner = Runner(
            inference=self.engine,
            journal=self.journal,
            contents=Contents(self.journal, ConversationKeys(US)),
            results=self.published,
            replies=self,
            clock=self.clock,
            processing_after_s=60.0,
        )
        self.payment_gate = PaymentGate(
            issuer=InvoiceIssuer(database=self.database, wallet=None, receiver=self, clock=self.clock),
            settlement=self.settlement,
            replies=self,
            clock=self.clock,
            run=self.runner.add,
            end=self.published.end,
            most=100,
        )

    async def stop(self) -> None:
        await self.payment_gate.close()
        await self.runner.close()
        await self.group.close()
        await self.database.close()

    # As an outbox.
    def event_bytes(self, relay: str) -> int:
        return 65_536

    async def publish_and_wait(self, publication: Publication) -> bool:
        self.put(publication)
        return True

    def put(self, publication: Publication) -> None:
        self.publications.append(publication)

    # As replies.
    def processing(self, *_: object) -> None:
        pass

    def payment_required(self, *_: object) -> None:
        pass

    def partial(self, request: Any, relay: str, text: str, offset: int, deadline: int, sent: Any) -> None:
        self.pieces[request.id].add(id(self.engine))
        sent()

    def refuse(self, refusal: Refusal) -> None:
        self.errors.append((refusal.id, refusal.code.value))

    def refusal(self, refusal: Refusal) -> Event:
        # The hour makes each that is signed another one.
        return US.sign(EventDraft(7000, f"{self.clock.now} {id(self.engine)}", (("e", refusal.id),), 1))

    # As a receiver.
    async def issue(self, customer: str, job: str, amount: Msat, *, description: str, expiry_s: int) -> Issued:
        before = await invoice_store.of_job(self.database, job)
        if before is not None and before.state is not InvoiceState.PENDING:
            raise ReceiveError(ReceiveCode.JOB_HAD_INVOICE, "it had one")
        if before is not None:
            return before
        self.hashes += 1
        now = self.clock.wall()
        issued = Issued(
            f"{self.hashes:064x}", job, customer, amount, "lnbc", now, now + expiry_s, InvoiceState.PENDING
        )
        async with self.database.transaction() as tx:
            await self._record(tx, issued)
        return issued

    async def _record(self, tx: Any, issued: Issued) -> None:
        if await invoice_store.of_job(tx, issued.job) is not None:
            return
        if await invoice_store.open_of(tx, issued.customer) is not None:
            raise ReceiveError(ReceiveCode.TOPUP_OPEN, "there is one")
        await invoice_store.add(tx, issued)

    async def check(self, *, at_start: bool = False) -> list[Credited]:
        async with self.database.transaction() as tx:
            for issued in await invoice_store.to_check(tx, ended_since=float("inf")):
                if issued.expires_at + 60 < self.clock.wall():
                    await invoice_store.move(tx, issued, InvoiceState.EXPIRED, self.clock.wall())
        return []

    async def pay(self, customer: str) -> None:
        """The customer pays what it was asked, and the payment gate hears of it."""
        async with self.database.transaction() as tx:
            issued = await invoice_store.open_of(tx, customer)
            if issued is None:
                return
            now = self.clock.wall()
            await invoice_store.move(tx, issued, InvoiceState.SETTLED, now)
            await book(tx, [ledger.topup_received(now, customer, issued.payment_hash, issued.amount)])
        credited = Credited(customer, issued.job, issued.payment_hash, issued.amount, False)
        await self.payment_gate._watch.credited(credited)


class History:
    """One history, by its seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.world = World(folder)
        self.jobs: list[Job] = []
        self.states: dict[str, str] = {}
        self.ran: set[str] = set()
        self.taken_back: set[str] = set()
        self.answered: set[str] = set()
        # Of whose answer the journal says that pieces were sent.
        self.heard: set[str] = set()
        self.run(self.world.start())

    def run(self, *parts: Any) -> None:
        async def together() -> None:
            async with asyncio.timeout(20):
                await asyncio.gather(*parts)
                await self.quiet()

        self.loop.run_until_complete(together())

    async def quiet(self) -> None:
        """Until nothing goes on but what waits for the engine, a payment or a relay."""
        world = self.world
        for _ in range(3):
            while (
                world.payment_gate._asks
                or len(world.runner.running) > len(world.engine.active_jobs)
                or world.runner._overdue._ending
            ):
                await asyncio.sleep(0)
            await world.group.execute("SELECT 1", ())

    # --- what may happen ----------------------------------------------------------------------------------------

    async def takes(self, customer: int, stream: bool) -> None:
        key, now = CUSTOMERS[customer], int(self.world.clock.wall())
        event = key.sign(EventDraft(5940, f"job {len(self.jobs)}", created_at=now))
        # Some pay for several jobs at once, which then wait for the engine.
        topup = Msat(self.rng.choice([0, 10_000]))
        asked = JobRequest("tell a story", JobParameters(stream=stream), topup=topup)
        request = ReceivedRequest(event.id, event.pubkey, now, asked, True, (US.public,))
        job = Job(request, event, Accept(Msat(QUOTE), now + 3_000, "m", 1_900, PRICE), float(now), "ws://r")
        self.jobs.append(job)
        decision = await self.world.settlement.take(job)
        assert decision is not None
        await self.world.payment_gate.handle(job, decision)

    async def cancels(self, which: int, own: bool) -> None:
        job = self.jobs[which % len(self.jobs)]
        customer = job.request.customer
        if own:
            if self.states.get(job.id) not in (*ENDS, "signed"):
                self.taken_back.add(job.id)
        else:
            customer = next(key.public for key in CUSTOMERS if key.public != customer)
        await self.world.payment_gate.cancel(job.id, customer)
        await self.world.runner.cancel(job.id, customer)

    async def streams(self, which: int) -> None:
        for id_, progress in self.at(which):
            if progress is not None:
                self.world.clock.now += 1
                progress(Progress(id_, "once upon a time", 5, 3))

    async def answers(self, which: int, how: str) -> None:
        for id_, _ in self.at(which):
            future = self.world.engine.active_jobs[id_][0]
            if future.done():
                continue
            if how == "answers":
                future.set_result(Generation("a story", "stop", 3, 1_000, 5))
                # Where it is not taken back in this very moment it is delivered.
                self.answered.add(id_)
            else:
                error = PromptError("long") if how == "too long" else EngineFailedError("broken")
                future.set_exception(RuntimeError("a bug") if how == "bug" else error)

    def at(self, which: int) -> list[tuple[str, Any]]:
        held = [(id_, progress) for id_, (_, progress) in self.world.engine.active_jobs.items()]
        return [held[which % len(held)]] if held else []

    async def passes(self, seconds: float) -> None:
        self.world.clock.now += seconds
        self.world.runner._overdue.look()
        if self.world.payment_gate.waiting:
            await self.world.payment_gate._watch.watch()

    async def delivers(self) -> None:
        publications, self.world.publications = self.world.publications, []
        for publication in publications:
            job_id = publication.event.tag("e") or ""
            if publication.event.kind == FEEDBACK:
                self.world.let_off[job_id].add(publication.event.id)
            else:
                result = parse_result(publication.event, ConversationKeys(self.key_of(publication.event.tag("p"))))
                self.world.results[job_id].add(publication.event.id)
                self.world.kinds[job_id] = result.finish
            if publication.done is not None:
                ends = expiration(publication.event)
                publication.done(ends is None or self.world.clock.now < ends)

    def key_of(self, public: str | None) -> SecretKey:
        return next(key for key in CUSTOMERS if key.public == public)

    async def restart(self) -> None:
        world = self.world
        await world.stop()
        await world.start()
        by_id = {job.id: job for job in self.jobs}
        async for pending in world.journal.pending():
            if pending.result is not None:
                again_out = world.published.publish if pending.state is JobState.SIGNED else world.published.tell
                again_out(pending.result, pending.result.tag("e") or "", pending.relay)
            elif pending.state is JobState.AWAITING_FUNDS:
                await world.payment_gate.restore(by_id[pending.event.id])
            else:
                world.runner.add(replace(by_id[pending.event.id], sent=pending.sent, again=pending.begun))

    def action(self) -> Any:
        """Something that may happen."""
        rng = self.rng
        name = rng.choice(["takes", "takes", "cancels", "streams", "answers", "answers", "pays", "pays", "delivers"])
        open_ = [n for n, job in enumerate(self.jobs) if self.states.get(job.id) in ("awaiting_funds", "queued")]
        which = rng.choice(open_ or [0])
        if name == "takes" or not self.jobs:
            return self.takes(rng.randint(0, 1), rng.random() < 0.5)
        if name == "cancels":
            return self.cancels(which, rng.random() < 0.5)
        if name == "streams":
            return self.streams(rng.randint(0, 1))
        if name == "answers":
            return self.answers(rng.randint(0, 1), rng.choice(["answers", "answers", "too long", "broken", "bug"]))
        if name == "pays":
            return self.world.pay(rng.choice(CUSTOMERS).public)
        return self.delivers()

    async def later(self, action: Any) -> None:
        # Some turns of the loop, or as long as the disk takes.
        if self.rng.random() < 0.5:
            await asyncio.sleep(0.005 * self.rng.random())
        for _ in range(self.rng.randint(0, 12)):
            await asyncio.sleep(0)
        await action

    def step(self) -> None:
        rng = self.rng
        happens = rng.choice([self.one, self.one, self.many, self.many, self.answered_and_taken_back,
                              self.paid_and_taken_back, self.heard_and_taken_back_after_a_crash,
                              self.time_passes, self.crash])  # fmt: skip
        happens()
        self.loop.run_until_complete(self.look())

    def one(self) -> None:
        self.run(self.action())

    def many(self) -> None:
        self.run(*(self.later(self.action()) for _ in range(self.rng.randint(2, 5))))

    def answered_and_taken_back(self) -> None:
        if held := self.at(0):
            which = [job.id for job in self.jobs].index(held[0][0])
            self.run(self.later(self.answers(0, "answers")), *(self.later(self.cancels(which, True)) for _ in "ab"))

    def paid_and_taken_back(self) -> None:
        waiting = [n for n, job in enumerate(self.jobs) if self.states.get(job.id) == "awaiting_funds"]
        if waiting:
            which = self.rng.choice(waiting)
            pays = self.world.pay(self.jobs[which].request.customer)
            self.run(self.later(pays), self.later(self.cancels(which, True)))

    def heard_and_taken_back_after_a_crash(self) -> None:
        streaming = [at for at in range(2) for _, progress in self.at(at) if progress is not None]
        if streaming:
            id_, _ = self.at(streaming[0])[0]
            self.run(self.streams(streaming[0]))
            self.loop.run_until_complete(self.look())
            self.run(self.restart())
            which = [job.id for job in self.jobs].index(id_)
            self.run(*(self.later(self.cancels(which, True)) for _ in range(self.rng.randint(0, 2))))

    def time_passes(self) -> None:
        self.run(self.passes(self.rng.choice([1.0, 1.0, 300.0, 700.0, 4_000.0])))

    def crash(self) -> None:
        self.run(self.crashes(self.action()))

    async def crashes(self, during: Any) -> None:
        """The process ends in the middle of something, and another one begins."""
        doing = asyncio.ensure_future(during)
        for _ in range(self.rng.randint(0, 12)):
            await asyncio.sleep(0)
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        await self.restart()

    # --- what must hold -----------------------------------------------------------------------------------------

    async def look(self) -> None:
        world = self.world
        rows = await world.database.fetch_all("SELECT id, state, code, charge_msat, completion_tokens FROM job")
        for row in rows:
            id_, state, before = row["id"], row["state"], self.states.get(row["id"])
            assert before in (None, state) or state in NEXT[before], (before, state)
            self.states[id_] = state
            if state not in ("awaiting_funds", "expired", "cancelled", "failed"):
                self.ran.add(id_)
            if state == "queued" and row["completion_tokens"]:
                self.heard.add(id_)
            if state == "cancelled":
                assert id_ not in self.heard, "what was sent is paid for, crash or not"
                assert id_ in self.taken_back, "a cancellation by somebody else changes nothing"
            if id_ in self.ran:
                assert row["code"] != "payment_timeout", "what is paid for does not run out of time to be paid"
            assert row["charge_msat"] <= QUOTE
            assert state in CHARGED or not row["charge_msat"]
        held = await world.database.fetch_all(
            "SELECT h.job FROM money_hold h JOIN job j ON j.id = h.job"
            " WHERE h.state = 'held' AND j.state NOT IN ('queued')"
        )
        assert held == [], "only what may run holds money"
        async with world.database.transaction() as tx:
            assert audit.examine(await audit.collect(tx)) == []
        asked = world.engine.asked
        assert len(asked) == len(set(asked)), "nothing is given to the engine twice"
        assert all(len(results) == 1 for results in world.results.values()), "nothing is signed twice"
        assert all(len(answers) == 1 for answers in world.pieces.values()), "pieces are of one answer"
        for id_, finish in world.kinds.items():
            assert finish is not Finish.CANCELLED or id_ in self.taken_back
        waiting = {row["id"] for row in rows if row["state"] == "awaiting_funds"}
        queued = {row["id"] for row in rows if row["state"] == "queued"}
        assert world.payment_gate.waiting == len(waiting), "what waits for money waits with the payment gate"
        here = {job.id for job in self.jobs if job.id in world.runner.running or world.runner.queue.get(job.id)}
        assert here == queued, "what may run is with the runner"

    def end(self) -> None:
        """Everything comes to its end, with nobody in the way."""

        async def rest() -> None:
            for _ in range(2 * len(self.jobs) + 2):
                for which in range(2):
                    await self.answers(which, "answers")
                await self.quiet()
                await self.delivers()
            await self.passes(100_000)

        self.run(rest())
        self.loop.run_until_complete(self.look())
        assert set(self.states.values()) <= ENDS, "every job has an end"
        off = {id_ for id_, state in self.states.items() if state == "cancelled"}
        assert off == set(self.world.let_off), "who took a job back hears that it costs nothing, whatever crashed"
        assert all(len(words) == 1 for words in self.world.let_off.values()), "in one and the same event"
        for id_ in self.answered - self.taken_back:
            assert self.states[id_] in ("settled", "undelivered"), (
                "an answer that exists is delivered, or was too late"
            )

    def close(self) -> None:
        self.loop.run_until_complete(self.world.stop())
        self.loop.close()


@pytest.mark.parametrize("seed", range(20))
def test_every_history_of_jobs_ends_well(tmp_path, monkeypatch, seed) -> None:
    monkeypatch.setattr(payment_watch, "TICK_S", 0.0)
    history = History(tmp_path, seed)
    try:
        for _ in range(30):
            history.step()
        history.end()
    finally:
        history.close()
