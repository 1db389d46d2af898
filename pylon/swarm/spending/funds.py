"""What can be paid at all: what the wallet holds, and what the limits leave.

A deposit that is larger would not be paid, and its provider left alone, though what is there may be enough for the
job itself. Both are asked for now and then, and meanwhile counted down by what is paid.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass

from pylon.clock import Clock
from pylon.money.msat import Msat
from pylon.money.payments.sender import Sender
from pylon.money.payments.store import Payment
from pylon.money.states import PaymentState
from pylon.money.wallet import WalletCode, WalletError

# At start nobody waits longer for a wallet, which may be away.
FIRST_S = 1.0
# Later it may take so long, and is asked so often while deposits are offered: money comes from elsewhere too.
WALLET_S, EVERY_S = 5.0, 60.0


@dataclass(slots=True)
class Funds:
    """`run` is that of all payments, and empty where they have none."""

    sender: Sender
    clock: Clock
    run: str
    # What the limits leave, and what the wallet holds, as far as it says so: when they were asked, less what was paid
    # since.
    _room: int | None = None
    _held: int | None = None
    _under_way: int = 0
    # Some wallets keep something back of what they hold: what can be asked of it, where it refused more.
    _gives: int | None = None
    _wanted: bool = False
    _asks_at: float = 0.0

    async def start(self) -> None:
        """Asks for the first time."""
        await self._ask(FIRST_S)
        if self._held is None:
            self._asks_at = self.clock.monotonic()

    async def look(self) -> None:
        """Asks anew when it is time, and somebody wanted to know it since."""
        if self._wanted and self.clock.monotonic() >= self._asks_at:
            await self._ask(WALLET_S)

    def most(self) -> Msat | None:
        """The largest payment that there is enough for, its fee not included; None where that is not known."""
        self._wanted = True
        if self._room is None:
            return None
        most = self._room if self._held is None else min(self._room, self._held - int(self.sender.most_fee))
        most -= self._under_way
        return Msat(max(0, most if self._gives is None else min(most, self._gives)))

    async def counted(self, amount: Msat, paying: Awaitable[Payment]) -> Payment:
        """A payment of so much, as it comes back."""
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
            # Until it holds more than now, half of what it refused is all that it is asked for.
            self._gives, self._asks_at = msat // 2, self.clock.monotonic()
        return payment

    async def _ask(self, within_s: float) -> None:
        self._asks_at, self._wanted = self.clock.monotonic() + EVERY_S, False
        self._room = int(await self.sender.room(self.run))
        # Of one that does not answer, what it held is a better guess than none.
        with suppress(WalletError, TimeoutError):
            async with asyncio.timeout(within_s):
                held = int(await self.sender.balance())
            if held > (self._held or 0):
                self._gives = None
            self._held = held
