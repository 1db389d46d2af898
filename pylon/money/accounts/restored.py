"""Accounts in books that were restored from a copy: the other sides have seen what happened after it.

A customer may have receipts, and we may have paid a provider, that these books do not know of. Going on under the old
numbers would look like fraud to a customer, or make a provider's honest receipts look so to us, and end the relation.
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

# Providers that we have an account with, or will have once a deposit there is settled. Relations that ended are left
# out.
_PROVIDERS = """
SELECT provider FROM money_mirror
UNION SELECT provider FROM money_payment WHERE state <> 'failed' AND NOT instr(provider, :by_hand)
EXCEPT SELECT provider FROM money_mirror WHERE ended IS NOT NULL
"""


async def begin_epochs(tx: Transaction, now: float) -> int:
    """Starts a new epoch for every customer's account and returns how many those are. Their totals run on.

    A customer that was charged nothing after the copy accepts it; one that paid since sees that its money is missing.
    """
    customers = [row["customer"] for row in await tx.fetch_all("SELECT customer FROM money_account")]
    return await tx.execute_many(
        "UPDATE money_account SET epoch = ?, opened_at = ? WHERE customer = ?",
        [(new_epoch(), now, customer) for customer in customers],
    )


async def forget_mirrors(tx: Transaction, now: float) -> int:
    """Forgets the state of every account with a provider, which is taken from its next receipts; returns how many.

    What the books have there, and what is on its way there, is booked as spent; what the provider then says is left
    will be booked as found. Orders from before the copy are dropped: receipts for them are older than later ones.
    Relations that ended stay ended.
    """
    rows = await tx.fetch_all(_PROVIDERS, {"by_hand": BY_HAND})
    for row in rows:
        provider = row["provider"]
        before = await mirror_store.load(tx, provider)
        paid = await mirror_store.paid(tx, provider)
        # A payment that is open in the copy may have been counted and used there long before it is settled here. If
        # it failed it is found with the rest. What we owe the provider it will say itself.
        gone = max(0, balance(before, paid) + int(paid.open))
        await book(tx, ledger.work_received(now, provider, f"{provider}/restored/{now!r}", gone))
        # Written off in `paid_base`, a plain number: the totals are the provider's word and may be the largest
        # amount.
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
