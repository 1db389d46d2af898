"""Accounts that went on while these books did not: they were restored from a copy.

A customer may have seen receipts, and we may have paid a provider, that are not in them. What goes on under the old
numbers would look like fraud to the other side, or make its honest receipts look so to us, and end the relation.
"""

import math
from dataclasses import replace

from pylon.money.accounts import mirror_rows, mirror_store, orders
from pylon.money.accounts.mirror import Outcome, Step, balance
from pylon.money.accounts.receipt import new_epoch
from pylon.money.books import ledger
from pylon.money.books.store import book
from pylon.money.payment import BY_HAND
from pylon.store.database import Transaction

# Whom we have an account with, or are to have one once a deposit there is answered.
_PROVIDERS = """
SELECT provider FROM money_mirror
UNION SELECT provider FROM money_payment WHERE state <> 'failed' AND NOT instr(provider, :by_hand)
EXCEPT SELECT provider FROM money_mirror WHERE ended IS NOT NULL
"""


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

    What the books have there is booked as spent, with what is on its way there, and what the provider says is left as
    found. What was ordered before the copy is not asked for: its receipt may have been followed by others. Relations
    that ended stay so.
    """
    rows = await tx.fetch_all(_PROVIDERS, {"by_hand": BY_HAND})
    for row in rows:
        provider = row["provider"]
        before = await mirror_store.load(tx, provider)
        paid = await mirror_store.paid(tx, provider)
        # A payment that is open in the copy may be counted there, and spent, long before it is settled here. If it
        # failed it is found with the rest. What we owe there it will say itself.
        gone = max(0, balance(before, paid) + int(paid.open))
        await book(tx, ledger.work_received(now, provider, f"{provider}/restored/{now!r}", gone))
        # What is gone is taken off what we paid, a plain number: the totals are the provider's word, as large as any.
        after = replace(
            before,
            epoch="",
            seq=0,
            paid_base=before.paid_base - gone,
            short=False,
            waiting=(),
            suspended_until=0.0,
            skipped_to=0,
        )
        await mirror_rows.save(tx, provider, before, Step(after, Outcome.ACCEPTED), now)
    await tx.execute("DELETE FROM money_waiting")
    await orders.forget(tx, before=math.inf)
    return len(rows)
