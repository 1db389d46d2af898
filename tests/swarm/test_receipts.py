"""A customer that died catches up with what it was charged meanwhile, over a real relay."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pylon.clock import SystemClock
from pylon.jobs.answer import Address
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.feedback import Feedback, Status, feedback_draft
from pylon.jobs.kinds import RLM_REQUEST, result_kind
from pylon.jobs.result import Finish, JobResult, result_draft
from pylon.money.accounts import mirror_store
from pylon.money.accounts.mirror import Claim, Fault
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Bounds, Usage
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import ZERO, Msat
from pylon.money.network import Network
from pylon.money.payments.sender import Sender, SendPolicy
from pylon.money.price import Price
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from pylon.store.group import GroupCommit
from pylon.swarm.providers.listing import Listing
from pylon.swarm.rows import written
from pylon.swarm.spending import receipts
from pylon.swarm.spending.account_purse import AccountPurse
from pylon.swarm.spending.purse import Bill, Offer, Owed
from pylon.swarm.spending.receipts import LateReceipts
from tests.money.fakes import FakeLightning, open_database
from tests.swarm.fakes import FakeRelays

EPOCH = "0" * 16
PRICE = Price(Msat(1_000), ZERO, ZERO)


class Side:
    """A customer's process, which may come and go, and a provider that goes on signing."""

    def __init__(self, stack, url: str, folder) -> None:
        self.stack, self.url, self.folder = stack, url, folder
        self.us, self.them, self.stranger = (SecretKey.generate() for _ in range(3))
        self.charged = self.seq = 0
        self.booked: dict[str, int] = {}

    async def pool(self, secret: SecretKey) -> RelayPool:
        pool = RelayPool([self.url], secret=secret)
        pool.start()
        self.stack.push_async_callback(pool.close)
        await pool.wait_open(5)
        return pool

    async def process(self) -> AccountPurse:
        lightning = FakeLightning(SystemClock())  # type: ignore[arg-type]
        database = await open_database(self.folder)
        self.stack.push_async_callback(database.close)
        group = GroupCommit(database)
        group.start()
        self.stack.push_async_callback(group.close)
        policy = SendPolicy(Network.PLAY, PLAY_CAPS, stopped=lambda: False)
        sender = Sender(database, lightning.wallet(), policy, lightning.clock)
        purse = AccountPurse(
            database=database, group=group, sender=sender, clock=SystemClock(), customer=self.us.public,
            run="run",
        )  # fmt: skip
        await purse.start()
        self.stack.push_async_callback(purse.close)
        return purse

    async def order(self, purse: AccountPurse, number: int) -> str:
        request = f"{number:064x}"
        offer = purse.offer(Listing(self.them.public, price=PRICE), Bounds(100, 16), bid=Msat(2_000), jobs_left=9)
        row = purse.ordered(request, RLM_REQUEST, offer)
        assert row is not None
        await written([row])
        return request

    async def answer(
        self,
        request: str,
        *,
        charge: int | None = 1_000,
        author: SecretKey | None = None,
        finish: Finish | None = None,
    ) -> None:
        key = author or self.them
        account = None
        if charge is not None:
            if author is None:
                self.seq, self.charged = self.seq + 1, self.charged + charge
            account = AccountReceipt(EPOCH, self.seq, charge, Msat(self.charged), ZERO)
        address = Address(request, self.us.public, True, int(SystemClock().wall()) + 600)
        kind = result_kind(RLM_REQUEST)
        result = JobResult(address, kind, "text", usage=Usage(50, 10), account=account, finish=finish)
        asked = EventDraft(RLM_REQUEST, "", (), int(SystemClock().wall()))
        draft = result_draft(result, ConversationKeys(key), request=self.us.sign(asked), created_at=asked.created_at)
        await (await self.pool(key)).publish(key.sign(draft))

    async def send_piece(self, request: str, text: str, offset: int) -> None:
        address = Address(request, self.us.public, True, int(SystemClock().wall()) + 600)
        piece = Feedback(address, Status.PARTIAL, text=text, offset=offset)
        draft = feedback_draft(piece, ConversationKeys(self.them), created_at=int(SystemClock().wall()))
        await (await self.pool(self.them)).publish(self.them.sign(draft))

    async def take_back(self, request: str, author: SecretKey | None = None) -> None:
        key = author or self.us
        draft = cancel_draft((request,), RLM_REQUEST, self.them.public, created_at=int(SystemClock().wall()))
        await (await self.pool(key)).publish(key.sign(draft))

    async def catch_up(self, purse: AccountPurse, waited_for=lambda _: False) -> LateReceipts:
        pool = await self.pool(self.us)
        late = LateReceipts(pool, purse, ConversationKeys(self.us), self.us.public, waited_for, self.heard)
        task = asyncio.create_task(late.run())
        self.stack.callback(task.cancel)
        await asyncio.wait_for(late.caught_up.wait(), 10)
        return late

    def heard(self, request: str, charged: Msat) -> None:
        self.booked[request] = int(charged)

    async def charged_by_books(self, purse: AccountPurse) -> int:
        assert (
            await ledger_store.balance(purse.database, ledger.provider(self.them.public))
            == -(await mirror_store.load(purse.database, self.them.public)).charged_total
        )
        return int((await mirror_store.load(purse.database, self.them.public)).charged_total)


@pytest.fixture
async def side(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        yield Side(stack, relay.url, tmp_path)


async def test_what_was_charged_while_the_customer_was_dead_is_booked_when_it_is_back(side):
    dead = await side.process()
    requests = [await side.order(dead, number) for number in range(1, 6)]
    for request in requests[:4]:
        await side.answer(request)
    purse = await side.process()
    await side.catch_up(purse)
    assert await side.charged_by_books(purse) == side.charged == 4_000
    assert side.booked == dict.fromkeys(requests[:4], 1_000)
    # What has no answer yet is asked for again by the next process.
    assert [owed.request for owed in await purse.unanswered(at_start=True)] == requests[4:]
    await side.answer(requests[4])
    again = await side.process()
    await side.catch_up(again)
    assert await side.charged_by_books(again) == 5_000
    assert await again.unanswered(at_start=True) == []


async def test_what_somebody_still_waits_for_and_what_others_wrote_is_left_alone(side):
    purse = await side.process()
    first, second = [await side.order(purse, number) for number in (1, 2)]
    await side.answer(first)
    await side.answer(second, author=side.stranger)
    await side.catch_up(purse, waited_for=lambda request: request == first)
    assert (await mirror_store.load(purse.database, side.them.public)).charged_total == 0


async def test_a_late_result_without_a_receipt_says_nothing_of_what_is_charged(side):
    dead = await side.process()
    request = await side.order(dead, 1)
    await side.answer(request, charge=None)
    purse = await side.process()
    await side.catch_up(purse)
    assert side.booked == {}
    assert [owed.request for owed in await purse.unanswered(at_start=True)] == [request]


async def test_a_late_receipt_above_its_quote_ends_the_relation_like_any_other(side):
    dead = await side.process()
    await side.answer(await side.order(dead, 1), charge=1_001)
    purse = await side.process()
    await side.catch_up(purse)
    assert (await mirror_store.load(purse.database, side.them.public)).ended is Fault.OVER_QUOTE
    assert side.booked == {}


async def test_a_gap_that_shows_later_is_asked_for_until_it_is_filled(side, monkeypatch):
    monkeypatch.setattr(receipts, "EVERY_S", 0.1)
    purse = await side.process()
    await side.catch_up(purse)
    missed, came = [await side.order(purse, number) for number in (1, 2)]
    await side.answer(missed)
    await side.answer(came)
    receipt = AccountReceipt(EPOCH, 2, 1_000, Msat(2_000), ZERO)
    now = SystemClock().wall()
    async with purse.database.transaction() as tx:
        await mirror_store.observe(tx, side.them.public, Claim(receipt, came, Msat(1_000), now, now))
    async with asyncio.timeout(10):
        while (await mirror_store.load(purse.database, side.them.public)).seq != 2:
            await asyncio.sleep(0.05)
    assert await side.charged_by_books(purse) == 2_000


@pytest.mark.parametrize(
    ("pieces", "taken_back_by", "books"),
    [
        ([("a piece", 0), (" more", 7)], "us", True),
        ([(" more", 7)], "us", False),
        ([("a piece", 0)], "us", False),
        ([("a piece", 0), (" more", 7)], "somebody else", False),
        ([("a piece", 0), (" more", 7)], "nobody", False),
    ],
    ids=["sent", "a gap", "too little", "a stranger took it back", "nobody took it back"],
)
async def test_a_part_is_booked_late_where_relays_show_that_it_was_sent_and_taken_back(
    side, pieces, taken_back_by, books
):
    dead = await side.process()
    request = await side.order(dead, 1)
    for text, offset in pieces:
        await side.send_piece(request, text, offset)
    if taken_back_by != "nobody":
        await side.take_back(request, None if taken_back_by == "us" else side.stranger)
    await side.answer(request, charge=900, finish=Finish.CANCELLED)
    purse = await side.process()
    await side.catch_up(purse)
    assert await side.charged_by_books(purse) == (900 if books else 0)
    # What nothing speaks for now may yet be shown: by a relay that was away.
    assert (await mirror_store.load(purse.database, side.them.public)).ended is None


async def test_who_signs_many_results_of_a_cancelled_job_does_not_keep_the_receipts_of_others_waiting():
    class Purse:
        async def unanswered(self, *, at_start: bool) -> list[Owed]:
            offer = Offer(Listing(them.public, price=PRICE), Bounds(100, 16), Msat(1_000), Msat(1_000))
            return [Owed("1" * 64, RLM_REQUEST, offer)] if at_start else []

    relays, us, them = FakeRelays(), SecretKey.generate(), SecretKey.generate()
    asked = us.sign(EventDraft(RLM_REQUEST, "", (), 0))
    for n in range(20):
        address = Address("1" * 64, us.public)
        result = JobResult(address, result_kind(RLM_REQUEST), "", usage=Usage(50, 10), finish=Finish.CANCELLED)
        relays.give(them.sign(result_draft(result, ConversationKeys(them), request=asked, created_at=n)))
    late = LateReceipts(relays, Purse(), ConversationKeys(us), us.public, lambda _: False, lambda *_: None)  # type: ignore[arg-type]
    task = asyncio.create_task(late.run())
    await asyncio.wait_for(late.caught_up.wait(), 10)
    task.cancel()
    assert len(relays.queries) == 2, "one for results, and one for what was sent of the job"


async def test_a_late_receipt_that_is_dated_back_counts_as_signed_when_its_job_was_ordered():
    signed: list[float] = []

    class Purse:
        async def unanswered(self, *, at_start: bool) -> list[Owed]:
            offer = Offer(Listing(them.public, price=PRICE), Bounds(100, 16), Msat(1_000), Msat(1_000))
            return [Owed("1" * 64, RLM_REQUEST, offer, asked_at=500.0)] if at_start else []

        def accept(self, bill: Bill, *_: object) -> None:
            signed.append(bill.signed_at)

    relays, us, them = FakeRelays(), SecretKey.generate(), SecretKey.generate()
    asked = us.sign(EventDraft(RLM_REQUEST, "", (), 0))
    for created_at in (100, 900):
        result = JobResult(Address("1" * 64, us.public), result_kind(RLM_REQUEST), "text", usage=Usage(50, 10))
        relays.give(them.sign(result_draft(result, ConversationKeys(them), request=asked, created_at=created_at)))
    late = LateReceipts(relays, Purse(), ConversationKeys(us), us.public, lambda _: False, lambda *_: None)  # type: ignore[arg-type]
    task = asyncio.create_task(late.run())
    await asyncio.wait_for(late.caught_up.wait(), 10)
    task.cancel()
    assert signed == [500.0, 900]


async def test_a_look_for_late_receipts_that_fails_is_not_the_last(monkeypatch):
    class Purse:
        asked = 0

        async def unanswered(self, *, at_start: bool) -> list[object]:
            self.asked += 1
            if self.asked == 1:
                raise OSError("a disk that was full for a moment")
            return []

    monkeypatch.setattr(receipts, "EVERY_S", 0.01)
    secret = SecretKey.generate()
    late = LateReceipts(None, Purse(), ConversationKeys(secret), secret.public, lambda _: False, lambda *_: None)  # type: ignore[arg-type]
    task = asyncio.create_task(late.run())
    await asyncio.wait_for(late.caught_up.wait(), 10)
    task.cancel()
