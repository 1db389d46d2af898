"""Late payments: a node that serves for free now makes no invoices, but earlier ones of its may still be paid."""

import asyncio

from pylon import log
from pylon.forever import forever
from pylon.money.invoices.receiver import LOOKUP_EVERY_S, Receiver
from pylon.money.wallet import WalletError

logger = log.get("money")


async def collect_late(receiver: Receiver) -> None:
    """Credits payments of earlier invoices until cancelled, so that customers have them once work costs again."""
    looked = False

    async def look() -> None:
        nonlocal looked
        try:
            credited = await receiver.check(at_start=not looked)
            looked = True
        except WalletError as error:
            logger.warning("the wallet does not report late payments", error=str(error))
        else:
            for one in credited:
                logger.info("paid", customer=one.customer, msat=int(one.amount), late=one.late)
        await asyncio.sleep(LOOKUP_EVERY_S)

    await forever(look, "late payments")
