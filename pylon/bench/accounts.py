"""What accounts add to a job: the same steps timed with accounts and without, on databases as nodes have them.

A provider takes a job and signs its result; a customer books the receipt. No relay, no model, no encryption: only
admission to an account, the hold, the charge, the receipt and the customer's copy of the account, each on disk before
the next. As in a node, jobs that run at once share a flush of the disk.
"""

import asyncio
import statistics
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylon.bench.credit import PRICE
from pylon.jobs.kinds import RLM_REQUEST
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.accounts import mirror_store
from pylon.money.accounts.account import Terms
from pylon.money.accounts.mirror import Claim
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.msat import Msat
from pylon.money.schema import MONEY
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider.admission import Accept
from pylon.provider.journal import Journal
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy, FreeSettlement, Settlement
from pylon.provider.queue import Job
from pylon.provider.rows import SCHEMA, Work
from pylon.store.database import Database, Transaction
from pylon.store.group import GroupCommit

TOKENS = (200, 16)
# A result of usual length, so that its database row has the usual size.
RESULT_BYTES = 2_000
# Jobs at once: twice the usual slots of a provider.
AT_ONCE = 32
# So much credit that no invoice is ever made: those are measured elsewhere.
CREDIT = Terms(credit=Msat.from_sats(1_000_000))


@dataclass(frozen=True, slots=True)
class Batch:
    """Wall and processor seconds of a batch of so many jobs."""

    jobs: int
    wall: float
    cpu: float


async def overhead(jobs: int, folder: Path) -> dict[str, float]:
    """Milliseconds that accounts add to a job, in wall and in processor time: medians over the batches."""
    provider, customer = SecretKey.generate(), SecretKey.generate()
    work = [_job(provider, customer, number) for number in range(jobs)]
    async with AsyncExitStack() as stack:
        free = FreeSettlement(Journal(*await _open(stack, folder / "free.db")))
        paid = AccountSettlement(Journal(*await _open(stack, folder / "paid.db")), CreditPolicy(CREDIT, None))
        _, mirror = await _open(stack, folder / "customer.db")
        wall: list[float] = []
        cpu: list[float] = []
        for at in range(0, jobs, AT_ONCE):
            some = work[at : at + AT_ONCE]
            # In turns, so that other load on the machine affects all alike.
            without, _ = await _timed([_serve(free, job, result) for job, result in some])
            with_, receipts = await _timed([_serve(paid, job, result) for job, result in some])
            pairs = zip(some, receipts, strict=True)
            booked, _ = await _timed([_book(mirror, provider.public, job, receipt) for (job, _), receipt in pairs])
            wall.append((with_.wall - without.wall + booked.wall) / len(some))
            cpu.append((with_.cpu - without.cpu + booked.cpu) / len(some))
    return {
        "overhead_ms_per_job_p50": round(1_000 * statistics.median(wall), 3),
        "overhead_cpu_ms_per_job_p50": round(1_000 * statistics.median(cpu), 3),
    }


async def _timed[T](work: list[Coroutine[Any, Any, T]]) -> tuple[Batch, list[T]]:
    wall, cpu = time.perf_counter(), time.process_time()
    values = await asyncio.gather(*work)
    return Batch(len(work), time.perf_counter() - wall, time.process_time() - cpu), values


async def _open(stack: AsyncExitStack, path: Path) -> tuple[Database, GroupCommit]:
    database = await Database.open(path, [SCHEMA, MONEY], label="play")
    stack.push_async_callback(database.close)
    group = GroupCommit(database)
    group.start()
    stack.push_async_callback(group.close)
    return database, group


def _job(provider: SecretKey, customer: SecretKey, number: int) -> tuple[Job, Event]:
    draft = EventDraft(RLM_REQUEST, f"{number:08d}" * (RESULT_BYTES // 8), (("p", provider.public),))
    event = customer.sign(draft)
    wish = JobRequest("", bid=Msat(5_000))
    request = ReceivedRequest(event.id, event.pubkey, event.created_at, wish, True, (provider.public,))
    terms = Accept(PRICE.quote(500, TOKENS[1]), event.created_at + 600, "stand-in", TOKENS[1], PRICE)
    answer = EventDraft(RLM_REQUEST + 1_000, draft.content, (("e", event.id), ("p", customer.public)))
    return Job(request, event, terms, float(event.created_at), ""), provider.sign(answer)


async def _serve(settlement: Settlement, job: Job, result: Event) -> AccountReceipt | None:
    given: list[AccountReceipt | None] = []

    def sign(receipt: AccountReceipt | None) -> Event:
        given.append(receipt)
        return result

    await settlement.take(job)
    await settlement.finish(job, Work(*TOKENS, 10, job.received_at), sign)
    return given[0]


async def _book(group: GroupCommit, provider: str, job: Job, receipt: AccountReceipt | None) -> None:
    assert receipt is not None  # noqa: S101 - accounts give one for each job
    at = job.received_at

    async def step(tx: Transaction) -> None:
        await mirror_store.observe(tx, provider, Claim(receipt, job.id, job.terms.quote, at, at))

    await group.submit(step)
