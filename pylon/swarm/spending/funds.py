"""The funds: what can be paid at all, by the wallet's balance and by the limits on spending.

A larger deposit would not be paid and its provider left alone, even though the funds may be enough for the job
itself. Both figures are asked for now and then, and counted down by payments in between.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass

from pylon.clock import Clock
from pylon.money.msat import Msat
from pylon.money.payment import Payment
from pylon.money.payments.sender import Sender
from pylon.money.states import PaymentState
from pylon.money.wallet import WalletCode, WalletError

# Seconds to wait for a wallet at start: it may be unreachable.
FIRST_S = 1.0
# Seconds to wait later, and between questions while deposits are offered: money may arrive from elsewhere.
WALLET_S, EVERY_S = 5.0, 60.0


@dataclass(slots=True)
class Funds:
    """See the module. `run` names the run that all payments belong to; empty if they belong to none."""

    sender: Sender
    clock: Clock
    run: str
    # What the limits leave and what the wallet holds (None: not known), as of the last question, less what was paid
    # since.
    _room: int | None = None
    _held: int | None = None
    _under_way: int = 0
    # Some wallets hold back part of their balance: how much can be asked of one that refused more.
    _gives: int | None = None
    _wanted: bool = False
    _asks_at: float = 0.0

    async def start(self) -> None:
        """Asks wallet and limits for the first time."""
        await self._ask(FIRST_S)
        if self._held is None:
            self._asks_at = self.clock.monotonic()

    async def look(self) -> None:
        """Asks again when it is time and `most` was called since."""
        if self._wanted and self.clock.monotonic() >= self._asks_at:
            await self._ask(WALLET_S)

    def most(self) -> Msat | None:
        """The largest payment that is possible, without its fee; None while that is not known."""
        self._wanted = True
        if self._room is None:
            return None
        most = self._room if self._held is None else min(self._room, self._held - int(self.sender.most_fee))
        most -= self._under_way
        return Msat(max(0, most if self._gives is None else min(most, self._gives)))

    async def counted(self, amount: Msat, paying: Awaitable[Payment]) -> Payment:
        """Awaits a payment of this amount, counts it, and returns it."""
        msat = int(amount)
        self._under_way += msat
        try:
            payment = await paying
        finally:
            self._under_way -= msat
        if payment.state is not PaymentState.FAILED:
            self._room = None if self._room is None else self._room - msat
            self._held = None if self._held is None else self._held - msat
        elif payment.reason == WalletCode.INSUFFICIENT_BALANCE:
            # Until its balance grows it is asked for no more than half of what it refused.
            self._gives, self._asks_at = msat // 2, self.clock.monotonic()
        return payment

    async def _ask(self, within_s: float) -> None:
        self._asks_at, self._wanted = self.clock.monotonic() + EVERY_S, False
        self._room = int(await self.sender.room(self.run))
        # For a wallet that does not answer, the last balance is the best guess.
        with suppress(WalletError, TimeoutError):
            async with asyncio.timeout(within_s):
                held = int(await self.sender.balance())
            if held > (self._held or 0):
                self._gives = None
            self._held = held
