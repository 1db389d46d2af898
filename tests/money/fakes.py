"""Second implementations of the seams: a lightning network of wallets in memory, and a relay in memory."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.schema import MONEY
from pylon.money.wallet import (
    Hint,
    Lookup,
    LookupState,
    PayResult,
    PayState,
    WalletCode,
    WalletError,
    WalletInfo,
)
from pylon.nostr.event import Event, is_ephemeral, is_replaceable, verify
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import Received
from pylon.store.database import Database, Schema
from tests.manual_clock import ManualClock
from tests.money.craft import KEY, NOW, honest


def clock() -> ManualClock:
    return ManualClock(wall=float(NOW))


# By the names of their rooms.
EMPTY: dict[tuple[str, ...], bytes] = {}


async def begin_database(path: Path, *schemas: Schema) -> None:
    """A file with all tables and nothing in them. Made anew, it would take longer than most of what is done to it."""
    rooms = tuple(schema.room for schema in schemas)
    if rooms not in EMPTY:
        first = path.with_suffix(".empty")
        await (await Database.open(first, schemas, durability="NORMAL")).close()
        EMPTY[rooms] = first.read_bytes()
    path.write_bytes(EMPTY[rooms])


async def open_database(path: Path, name: str = "pylon.db") -> Database:
    if not (path / name).exists():
        await begin_database(path / name, MONEY)
    return await Database.open(path / name, [MONEY], durability="NORMAL")


@dataclass
class Slip:
    """An invoice in the fake network."""

    preimage: bytes
    sats: int
    text: str
    owner: "FakeWallet"
    payer: "FakeWallet | None" = None
    settled: bool = False
    fee: int = 0


@dataclass
class FakeLightning:
    """What all fake wallets share: every payment that ever moved, so that a test can count them."""

    clock: ManualClock
    network: Network = Network.PLAY
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    slips: dict[str, Slip] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)

    def wallet(self, key: SecretKey = KEY, sats: int = 1_000_000) -> "FakeWallet":
        return FakeWallet(self, key, sats * 1_000)


class FakeWallet:
    """A wallet whose misbehaviour is set by its attributes."""

    def __init__(self, lightning: FakeLightning, key: SecretKey, msat: int) -> None:
        self.lightning = lightning
        self.key = key
        self.msat = msat
        self.down = False
        self.calls: list[str] = []
        # What the next payments do: "ok", "lost" (paid, answer lost), "unsent" (answer lost, nothing paid),
        # "late" (the same, but the request arrives in the end), "failed", "internal", "lie" (says paid and is
        # not), "stuck" (pending), or a WalletCode.
        self.next_pay: list[str | WalletCode] = []
        self.invoice_text: Callable[[str], str] = lambda text: text
        self.lookup_as: Callable[[Lookup], Lookup] = lambda lookup: lookup
        self.knows_outgoing = True
        self.since: float | None = None
        self.fee = 0
        self.stuck: set[str] = set()
        self.under_way: list[str] = []
        self.hints: asyncio.Queue[Hint] = asyncio.Queue()

    def _check(self, call: str) -> None:
        self.calls.append(call)
        if self.down:
            raise WalletError(WalletCode.UNREACHABLE, "down")

    async def info(self) -> WalletInfo:
        self._check("info")
        return WalletInfo(self.lightning.network.value)

    async def balance(self) -> Msat:
        self._check("balance")
        return Msat(self.msat)

    async def create_invoice(self, amount: Msat, *, description: str, expiry_s: int) -> str:
        self._check("create_invoice")
        preimage = self.lightning.rng.randbytes(32)
        payment_hash = hashlib.sha256(preimage)
        text = honest(
            amount.whole_sats(),
            key=self.key,
            currency=self.lightning.network.currency,
            payment_hash=payment_hash.digest(),
            created_at=int(self.lightning.clock.wall()),
            expiry_s=expiry_s,
        )
        self.lightning.slips[payment_hash.hexdigest()] = Slip(preimage, amount.whole_sats(), text, self)
        return self.invoice_text(text)

    async def lookup(self, payment_hash: str, *, since: float | None = None) -> Lookup:
        self._check("lookup")
        self.since = since
        slip = self.lightning.slips.get(payment_hash)
        if slip is None or (slip.owner is not self and (slip.payer is not self or not self.knows_outgoing)):
            return self.lookup_as(Lookup(LookupState.NOT_FOUND))
        if payment_hash in self.stuck:
            return self.lookup_as(Lookup(LookupState.PENDING))
        if slip.settled:
            found = Lookup(LookupState.SETTLED, Msat(slip.sats * 1_000), Msat(slip.fee), slip.preimage.hex())
            return self.lookup_as(found)
        return self.lookup_as(Lookup(LookupState.PENDING, Msat(slip.sats * 1_000)))

    async def ready(self) -> None:
        self._check("ready")

    async def pay(self, invoice: str, *, fee_limit: Msat) -> PayResult:
        self.calls.append("pay")
        await asyncio.sleep(0)
        if self.down:
            return PayResult(PayState.FAILED, code=WalletCode.UNREACHABLE)
        way = self.next_pay.pop(0) if self.next_pay else "ok"
        payment_hash, slip = next((h, s) for h, s in self.lightning.slips.items() if s.text == invoice)
        if isinstance(way, WalletCode):
            return PayResult(PayState.FAILED, code=way)
        match way:
            case "late":
                self.under_way.append(payment_hash)
                return PayResult(PayState.UNKNOWN, code=WalletCode.TIMEOUT)
            case "unsent":
                return PayResult(PayState.UNKNOWN, code=WalletCode.TIMEOUT)
            case "failed":
                return PayResult(PayState.FAILED, code=WalletCode.PAYMENT_FAILED)
            case "internal":
                return PayResult(PayState.UNKNOWN, code=WalletCode.INTERNAL)
            case "lie":
                return PayResult(PayState.SETTLED, "ab" * 32, Msat(0))
            case "stuck":
                self.stuck.add(payment_hash)
        self.move(payment_hash)
        if way in ("lost", "stuck"):
            return PayResult(PayState.UNKNOWN, code=WalletCode.TIMEOUT)
        return PayResult(PayState.SETTLED, slip.preimage.hex(), Msat(self.fee))

    def arrive(self) -> None:
        """Requests to pay that were held up arrive now."""
        while self.under_way:
            self.move(self.under_way.pop())

    def move(self, payment_hash: str) -> None:
        """Money moves: what no code of ours may cause twice."""
        slip = self.lightning.slips[payment_hash]
        self.lightning.moved.append(payment_hash)
        self.msat -= slip.sats * 1_000 + self.fee
        slip.owner.msat += slip.sats * 1_000
        slip.payer, slip.settled, slip.fee = self, True, self.fee

    async def events(self) -> AsyncIterator[Hint]:
        while True:
            yield await self.hints.get()


class LoopRelay:
    """A relay in memory: keeps what is not ephemeral, passes on what is live."""

    def __init__(self) -> None:
        self.stored: list[Event] = []
        self.subscriptions: list[LoopSubscription] = []
        self.drop: Callable[[Event], bool] = lambda event: False
        self.published: list[Event] = []
        self.down = False

    async def publish(self, event: Event) -> object:
        await asyncio.sleep(0)
        verify(event)
        self.published.append(event)
        if self.drop(event):
            return []
        if is_replaceable(event.kind):
            self.stored = [e for e in self.stored if (e.pubkey, e.kind) != (event.pubkey, event.kind)]
        if not is_ephemeral(event.kind):
            self.stored.append(event)
        for subscription in self.subscriptions:
            subscription.offer(event)
        return ["loop"]

    def subscribe(self, filters: Callable[[], tuple[Filter, ...]], *, name: str = "") -> "LoopSubscription":
        subscription = LoopSubscription(self, filters())
        self.subscriptions.append(subscription)
        for event in self.stored:
            subscription.offer(event)
        return subscription

    async def query(self, filters: tuple[Filter, ...], *, timeout: float = 10.0) -> list[Event]:
        await asyncio.sleep(0)
        return [event for event in self.stored if any(f.matches(event) for f in filters)]


class LoopSubscription:
    def __init__(self, relay: LoopRelay, filters: tuple[Filter, ...]) -> None:
        self._relay = relay
        self._filters = filters
        self._queue: asyncio.Queue[Received] = asyncio.Queue()

    def offer(self, event: Event) -> None:
        # `since` is left out: these tests have clocks of their own.
        if any(Filter(f.ids, f.authors, f.kinds, f.tags).matches(event) for f in self._filters):
            self._queue.put_nowait(Received(event, "loop"))

    def __aiter__(self) -> AsyncIterator[Received]:
        return self

    async def __anext__(self) -> Received:
        return await self._queue.get()

    async def close(self) -> None:
        self._relay.subscriptions.remove(self)
