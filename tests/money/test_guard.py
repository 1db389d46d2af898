import pytest

from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.payments.guard import GuardedWallet
from pylon.money.wallet import PayState, WalletCode, WalletError, WalletInfo
from tests.money.craft import honest
from tests.money.fakes import FakeLightning, clock

FEE = Msat(0)


def wallet_of(network: Network):
    return FakeLightning(clock(), network).wallet()


async def pay(guard: GuardedWallet, currency: str):
    return (await guard.pay(honest(5, currency=currency), fee_limit=FEE)).code


@pytest.mark.parametrize("network", [n for n in Network if not n.is_live])
@pytest.mark.parametrize("live", [True, False])
async def test_no_path_makes_or_pays_an_lnbc_invoice_on_a_test_network(network, live):
    inner = wallet_of(network)
    guard = GuardedWallet(inner, network, live=lambda: live, also_called=[network.value])
    assert await pay(guard, "bc") is WalletCode.WRONG_NETWORK
    inner.invoice_text = lambda text: honest(5, currency="bc")
    with pytest.raises(WalletError) as caught:
        await guard.create_invoice(Msat(5_000), description="", expiry_s=60)
    assert caught.value.code is WalletCode.WRONG_NETWORK
    assert "pay" not in inner.calls


async def test_no_path_makes_or_pays_an_lnbc_invoice_on_mainnet_without_go_live():
    inner = wallet_of(Network.MAINNET)
    guard = GuardedWallet(inner, Network.MAINNET)
    assert await pay(guard, "bc") is WalletCode.WRONG_NETWORK
    with pytest.raises(WalletError):
        await guard.create_invoice(Msat(5_000), description="", expiry_s=60)
    assert inner.calls == []


async def test_after_go_live_mainnet_works_and_test_money_does_not():
    inner = wallet_of(Network.MAINNET)
    guard = GuardedWallet(inner, Network.MAINNET, live=lambda: True)
    text = await guard.create_invoice(Msat(5_000), description="", expiry_s=60)
    assert text.startswith("lnbc50n1")
    assert await pay(guard, "bcrt") is WalletCode.WRONG_NETWORK
    assert (await guard.pay(text, fee_limit=FEE)).state is PayState.SETTLED


@pytest.mark.parametrize("named", ["mainnet", "testnet", "signet", "", "regtest "])
async def test_a_wallet_that_names_another_network_is_refused_unless_overridden(named):
    inner = wallet_of(Network.REGTEST)

    async def info():
        return WalletInfo(named)

    inner.info = info
    guard = GuardedWallet(inner, Network.REGTEST)
    with pytest.raises(WalletError) as caught:
        await guard.info()
    assert caught.value.code is WalletCode.WRONG_NETWORK
    assert caught.value.hint
    with pytest.raises(WalletError):
        await guard.create_invoice(Msat(5_000), description="", expiry_s=60)
    assert await pay(guard, "bcrt") is WalletCode.WRONG_NETWORK
    trusting = GuardedWallet(inner, Network.REGTEST, also_called=[named])
    assert (await trusting.info()).network == named
    text = await trusting.create_invoice(Msat(5_000), description="", expiry_s=60)
    assert (await trusting.pay(text, fee_limit=FEE)).state is PayState.SETTLED


def silent(network: Network):
    inner = wallet_of(network)

    async def info():
        return WalletInfo("")

    inner.info = info
    return inner


@pytest.mark.parametrize("network", [n for n in Network if not n.is_live])
async def test_a_wallet_that_does_not_name_its_network_may_be_a_live_one_and_is_no_test_wallet(network):
    inner = silent(network)
    guard = GuardedWallet(inner, network)
    with pytest.raises(WalletError, match="does not say which network") as caught:
        await guard.info()
    assert 'also_called = [""]' in caught.value.hint
    assert await pay(guard, network.currency) is WalletCode.WRONG_NETWORK
    assert "pay" not in inner.calls


async def test_on_mainnet_a_wallet_need_not_name_its_network_since_its_invoices_do():
    inner = silent(Network.MAINNET)
    guard = GuardedWallet(inner, Network.MAINNET, live=lambda: True)
    text = await guard.create_invoice(Msat(5_000), description="", expiry_s=60)
    assert (await guard.pay(text, fee_limit=FEE)).state is PayState.SETTLED
    assert await pay(guard, "tb") is WalletCode.WRONG_NETWORK
    inner.invoice_text = lambda text: honest(5, currency="tb")
    with pytest.raises(WalletError, match="lntb invoice"):
        await guard.create_invoice(Msat(5_000), description="", expiry_s=60)
    assert await pay(GuardedWallet(silent(Network.MAINNET), Network.MAINNET), "bc") is WalletCode.WRONG_NETWORK


async def test_a_wallet_that_does_not_answer_has_sent_nothing():
    inner = wallet_of(Network.PLAY)
    inner.down = True
    guard = GuardedWallet(inner, Network.PLAY)
    assert await pay(guard, "bcrt") is WalletCode.UNREACHABLE
    assert await pay(GuardedWallet(wallet_of(Network.PLAY), Network.PLAY), "tb") is WalletCode.WRONG_NETWORK


async def test_balance_lookup_and_events_pass():
    inner = wallet_of(Network.PLAY)
    guard = GuardedWallet(inner, Network.PLAY)
    assert await guard.balance() == inner.msat
    assert (await guard.lookup("00" * 32)).state == "not_found"
    assert (await guard.info()).network == "play"
    assert guard.events() is not None
