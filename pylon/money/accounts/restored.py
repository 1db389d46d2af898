"""Accounts that went on while these books did not: they were restored from a copy.

A customer may have seen receipts, and we may have paid a provider, that are not in them. What goes on under the old
numbers would look like fraud to the other side, or make its honest receipts look so to us, and end the relation.
"""

import math

from pylon.money.accounts import mirror_store, orders
from pylon.money.accounts.mirror import balance
from pylon.money.accounts.receipt import new_epoch
from pylon.money.books import ledger
from pylon.money.books.store import book
from pylon.store.database import Transaction


async def begin_epochs(tx: Transaction, now: float) -> int:
    """Every customer's account starts a new epoch; how many. Their totals run on.

    A customer that was charged nothing since takes it up; one that paid since sees that its money is not in it.
    """
    customers = [row["customer"] for row in await tx.fetch_all("SELECT customer FROM money_account")]
    return await tx.execute_many(
        "UPDATE money_account SET epoch = ?, opened_at = ? WHERE customer = ?",
        [(new_epoch(), now, customer) for customer in customers],
    )


async def forget_mirrors(tx: Transaction, now: float) -> int:
    """Every account with a provider is taken up where that says it stands, as one that is new to us; how many.

    What the books have there is booked as spent, and what the provider says is left as found. What was ordered before
    the copy is not asked for: its receipt may have been followed by others. Relations that ended stay so.
    """
    providers = [
        row["provider"] for row in await tx.fetch_all("SELECT provider FROM money_mirror WHERE ended IS NULL")
    ]
    for provider in providers:
        left = balance(await mirror_store.load(tx, provider), await mirror_store.paid(tx, provider))
        # What we owe there it will say itself.
        gone = max(0, left)
        await book(tx, ledger.work_received(now, provider, f"{provider}/restored/{now!r}", gone))
        await tx.execute(
            "UPDATE money_mirror SET epoch = '', seq = 0, short = 0, suspended_until = 0, skipped_to = 0,"
            " charged_total = charged_total + :gone, lost = lost + :gone,"
            " paid_seen = min(paid_seen, charged_total + :gone) WHERE provider = :provider",
            {"gone": gone, "provider": provider},
        )
    await tx.execute("DELETE FROM money_waiting")
    await orders.forget(tx, before=math.inf)
    return len(providers)
