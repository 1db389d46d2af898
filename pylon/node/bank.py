"""The playbank that `pylon relay` runs: a wallet service for play money.

Its control socket (`relay.sock` in PYLON_HOME) opens accounts and hands out play money. Only this user can open that
socket, so access to the relay is not enough to make money.
"""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pylon.clock import Clock, SystemClock
from pylon.errors import SetupError, UsageError
from pylon.money.msat import Msat
from pylon.money.playbank.bank import PlayBank
from pylon.money.playbank.schema import PLAYBANK
from pylon.money.playbank.service import PlayBankService
from pylon.node import identity
from pylon.node.calls.params import flag, text, whole
from pylon.node.calls.protocol import Answers, Result
from pylon.node.calls.server import ControlServer
from pylon.node.home import BANK_DATABASE, private_folder, socket_path
from pylon.nostr.pool import RelayPool
from pylon.store import marks
from pylon.store.database import Database

KEY_FILE = "bank-identity"
LABEL = "playbank"
SOCKET = "relay.sock"
MAX_ACCOUNT = 100


class BankHost:
    """An async context manager that serves the bank of the home in `folder` over the relay at `url`."""

    def __init__(self, folder: Path, url: str, *, clock: Clock | None = None) -> None:
        self._folder = folder
        self._url = url
        self._clock = clock or SystemClock()
        self._exit = AsyncExitStack()
        self._bank: PlayBank
        self._service: PlayBankService

    async def __aenter__(self) -> "BankHost":
        try:
            await self._open()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def _open(self) -> None:
        private_folder(self._folder)
        file = self._folder / KEY_FILE
        key = identity.load(file) if file.exists() else identity.create(file)
        database = await Database.open(self._folder / BANK_DATABASE, [PLAYBANK], label=LABEL)
        self._exit.push_async_callback(database.close)
        if await marks.copied_at(database) is not None:
            # After a restore, a bank needs nothing else.
            async with database.transaction() as tx:
                await marks.begin(tx, self._clock.wall())
        pool = RelayPool([self._url], secret=key, clock=self._clock)
        pool.start()
        self._exit.push_async_callback(pool.close)
        self._bank = PlayBank(database, key, self._clock)
        self._service = PlayBankService(self._bank, key, pool, self._clock)
        await self._service.start()
        self._exit.push_async_callback(self._service.close)
        methods = {"bank-link": self._link, "bank-faucet": self._faucet}
        control = ControlServer(
            socket_path(self._folder / SOCKET), methods, more="The output of `pylon relay` says more."
        )
        await control.start()
        self._exit.push_async_callback(control.close)

    async def _link(self, params: dict[str, Any]) -> Answers:
        account = _account(params)
        budget = whole(params, "budget_sat", None)
        link = await self._service.open_link(
            account,
            (self._url,),
            can_pay=not flag(params, "receive_only"),
            budget=None if budget is None else Msat.from_sats(budget),
        )
        yield Result({"account": account, "link": link.reveal()})

    async def _faucet(self, params: dict[str, Any]) -> Answers:
        account = _account(params)
        balance = await self._bank.faucet(account, Msat.from_sats(whole(params, "sats", 0)))
        yield Result({"account": account, "balance_msat": int(balance)})


def bank_socket(home: Path) -> Path:
    """The control socket of this home's playbank. Raises `SetupError` if none runs."""
    path = socket_path(home / SOCKET)
    if not path.exists():
        raise SetupError(
            f"no playbank is running in {home}",
            hint=(
                "Start one with `pylon relay`. To use the playbank of another home, run `pylon "
                "wallet link NAME` there and paste its output into `pylon wallet connect -` here; "
                "`pylon wallet faucet SATS --account NAME` there adds play money."
            ),
        )
    return path


def _account(params: dict[str, Any]) -> str:
    account = text(params, "account", "")
    if not account or len(account) > MAX_ACCOUNT:
        raise UsageError(f"an account name must have 1 to {MAX_ACCOUNT} characters")
    return account
