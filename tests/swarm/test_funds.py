"""What can be paid at all is known soon, counted down by what is paid, and asked for anew now and then."""

import asyncio
from types import SimpleNamespace

import pytest

from pylon.money.msat import Msat
from pylon.money.states import PaymentState
from pylon.money.wallet import WalletCode, WalletError
from pylon.swarm.spending import funds as funds_module
from pylon.swarm.spending.funds import EVERY_S, Funds
from tests.manual_clock import ManualClock

FEE = 10_000
EMPTY = WalletCode.INSUFFICIENT_BALANCE


class Sender:
    """A stand-in for whoever pays: what the limits leave, and what the wallet says that it holds."""

    most_fee = Msat(FEE)

    def __init__(self) -> None:
        self.leaves = 10**9
        self.holds: int | WalletError | None = 500_000
        self.asked = 0

    async def room(self, run: str) -> Msat:
        return Msat(self.leaves)

    async def balance(self) -> Msat:
        self.asked += 1
        if self.holds is None:
            await asyncio.Event().wait()
        if isinstance(self.holds, WalletError):
            raise self.holds
        return Msat(self.holds)


@pytest.fixture
def sender():
    return Sender()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def funds(sender, clock):
    return Funds(sender, clock, "run")


async def becomes(state: PaymentState, reason: str = ""):
    return SimpleNamespace(state=state, reason=reason)


@pytest.mark.parametrize(("leaves", "holds", "most"), [(10**9, 500_000, 490_000), (3_000, 500_000, 3_000), (9, 9, 0)])
async def test_it_is_what_the_wallet_holds_without_a_fee_and_what_the_limits_leave(
    funds, sender, leaves, holds, most
):
    assert funds.most() is None
    sender.leaves, sender.holds = leaves, holds
    await funds.start()
    assert funds.most() == most


@pytest.mark.parametrize("holds", [WalletError(WalletCode.NOT_IMPLEMENTED, "no"), None], ids=["says no", "is silent"])
async def test_a_wallet_that_does_not_say_what_it_holds_leaves_the_limits_and_is_asked_soon_again(
    funds, sender, clock, monkeypatch, holds
):
    monkeypatch.setattr(funds_module, "FIRST_S", 0.01)
    sender.holds = holds
    await funds.start()
    assert funds.most() == 10**9
    sender.holds = 20_000
    await funds.look()
    assert funds.most() == 10_000


async def test_the_wallet_is_asked_once_a_minute_and_only_while_somebody_wants_to_know(funds, sender, clock):
    await funds.start()
    clock.advance(EVERY_S)
    await funds.look()
    assert sender.asked == 1
    funds.most()
    sender.holds = 30_000
    clock.advance(-1)
    await funds.look()
    assert funds.most() == 490_000
    clock.advance(1)
    await funds.look()
    assert (funds.most(), sender.asked) == (20_000, 2)


@pytest.mark.parametrize(
    ("state", "left"),
    [(PaymentState.SETTLED, 190_000), (PaymentState.UNKNOWN, 190_000), (PaymentState.FAILED, 490_000)],
)
async def test_a_payment_counts_while_it_is_under_way_and_after_that_unless_it_failed(funds, sender, state, left):
    await funds.start()
    goes_on = asyncio.Event()

    async def pays():
        await goes_on.wait()
        return await becomes(state)

    paying = asyncio.create_task(funds.counted(Msat(300_000), pays()))
    await asyncio.sleep(0)
    assert funds.most() == 190_000
    goes_on.set()
    await paying
    assert funds.most() == left
    # Also where the wallet does not say any more what it holds.
    sender.holds = WalletError(WalletCode.UNREACHABLE, "away")
    funds._asks_at = 0.0
    await funds.look()
    assert funds.most() == left


async def test_a_payment_that_could_not_be_made_gives_back_what_it_counted(funds):
    await funds.start()

    async def breaks():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await funds.counted(Msat(300_000), breaks())
    assert funds.most() == 490_000


async def test_of_a_wallet_that_keeps_something_back_half_is_asked_until_it_holds_more(funds, sender):
    await funds.start()
    for amount, half in ((480_000, 240_000), (240_000, 120_000)):
        await funds.counted(Msat(amount), becomes(PaymentState.FAILED, EMPTY))
        assert funds.most() == half
        await funds.look()
        assert funds.most() == half
    await funds.counted(Msat(1_000), becomes(PaymentState.FAILED, WalletCode.RATE_LIMITED))
    assert funds.most() == 120_000
    sender.holds += 1
    funds._asks_at = 0.0
    await funds.look()
    assert funds.most() == 490_001
