"""A wrapper around a wallet that lets no invoice of another network through, and none for live money without
permission.

Every wallet of a node is wrapped in one when it is connected, so that no caller can forget these checks.
"""

from collections.abc import AsyncIterator, Callable, Collection

from pylon.money.invoices import invoice as invoices
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.wallet import (
    Hint,
    Lookup,
    PayResult,
    PayState,
    Wallet,
    WalletCode,
    WalletError,
    WalletInfo,
    not_sent,
)


class GuardedWallet:
    """A `Wallet` with these checks.

    `live()` says whether live money is allowed now. `also_called` are names that this wallet may give its network
    besides the right one, since some always say mainnet; its invoices are checked all the same.
    """

    def __init__(
        self,
        wallet: Wallet,
        network: Network,
        *,
        live: Callable[[], bool] = lambda: False,
        also_called: Collection[str] = (),
    ) -> None:
        self._wallet = wallet
        self._network = network
        self._live = live
        self._also_called = frozenset(also_called)
        self._name_checked = False

    async def info(self) -> WalletInfo:
        info = await self._wallet.info()
        if not self._network.accepts_wallet(info.network) and info.network not in self._also_called:
            raise _another(info.network, self._network)
        self._name_checked = True
        return info

    async def balance(self) -> Msat:
        return await self._wallet.balance()

    async def create_invoice(self, amount: Msat, *, description: str, expiry_s: int) -> str:
        await self._check()
        text = await self._wallet.create_invoice(amount, description=description, expiry_s=expiry_s)
        self._check_invoice(text)
        return text

    async def lookup(self, payment_hash: str, *, since: float | None = None) -> Lookup:
        return await self._wallet.lookup(payment_hash, since=since)

    async def ready(self) -> None:
        await self._check()
        await self._wallet.ready()

    async def pay(self, invoice: str, *, fee_limit: Msat) -> PayResult:
        try:
            await self._check()
            self._check_invoice(invoice)
        except WalletError as error:
            return PayResult(PayState.FAILED, code=not_sent(error))
        return await self._wallet.pay(invoice, fee_limit=fee_limit)

    def events(self) -> AsyncIterator[Hint]:
        return self._wallet.events()

    async def _check(self) -> None:
        if self._network.is_live and not self._live():
            raise WalletError(WalletCode.WRONG_NETWORK, "live money is not allowed here")
        if not self._name_checked:
            await self.info()

    def _check_invoice(self, text: str) -> None:
        try:
            currency = invoices.decode(text).currency
        except invoices.InvoiceError as error:
            raise WalletError(WalletCode.WRONG_NETWORK, f"an invoice cannot be read: {error}") from error
        if currency != self._network.currency:
            raise WalletError(WalletCode.WRONG_NETWORK, f"an ln{currency} invoice is not for {self._network.value}")


def _another(named: str, network: Network) -> WalletError:
    if named:
        return WalletError(
            WalletCode.WRONG_NETWORK,
            f"the wallet says it is on {named!r}, not on {network.value}",
            hint=(
                "Connect a wallet on this network. If the wallet only reports the wrong name, see "
                "`wallet.also_called`."
            ),
        )
    return WalletError(
        WalletCode.WRONG_NETWORK,
        "the wallet does not say which network it is on, and might hold real money, so it is not "
        f"used on {network.value}",
        hint=(
            f'If you are sure that it is on {network.value}, set `also_called = [""]` under [wallet] in config.toml.'
        ),
    )
