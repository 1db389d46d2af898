"""The first start of a home that was restored from a backup (`pylon backup`).

After the copy was made, jobs that wait in it were answered, payments that it has reserved were sent, and accounts
moved on. The database is brought to a state that a node can safely go on from before anything is served, asked or
paid. docs/backup.md lists what is done.
"""

from datetime import datetime

from pylon import log
from pylon.errors import SetupError
from pylon.money.accounts import restored as accounts
from pylon.money.accounts import store as account_store
from pylon.money.payments import store as payment_store
from pylon.money.states import PaymentState
from pylon.node.home import BANK_DATABASE, Home
from pylon.provider import rows
from pylon.provider.rows import JobState
from pylon.store import marks
from pylon.store.database import Database
from pylon.store.look import is_copied_to

logger = log.get("node")


def refuse_backup_itself(home: Home) -> None:
    """Raises `SetupError` where the home is a backup itself, and not a copy of one that was put in a home's place.

    A node that began with the backup would change it, and two homes that were then restored from it would sign
    receipts with the same numbers.
    """
    if any(is_copied_to(books, home.root) for books in (home.database, home.root / BANK_DATABASE)):
        raise SetupError(
            f"{home.root} is a backup, and must stay as it is",
            hint=(
                "Put a copy of it in the home's place, as docs/backup.md explains. `pylon doctor` "
                "can examine the backup."
            ),
        )


async def begin_restored(database: Database, now: float) -> None:
    """Prepares a copy that no node has begun with, in one transaction; does nothing with any other database.

    `now` is in Unix seconds.
    """
    copied_at = await marks.copied_at(database)
    if copied_at is None:
        return
    # The customer's side is loaded for a restored home alone: a node that serves does without it.
    from pylon.swarm.runs.journal import forget_unanswered

    async with database.transaction() as tx:
        reserved = await payment_store.in_state(tx, PaymentState.RESERVED)
        for payment in reserved:
            # It was not sent before the copy, and may have been after it: its wallet is asked.
            await payment_store.move(tx, payment.payment_hash, PaymentState.SENDING, "", now)
        waiting = await tx.fetch_all("SELECT id FROM job WHERE state IN ('awaiting_funds', 'queued')")
        for row in waiting:
            # A job that was answered after the copy would be answered and charged a second time.
            await account_store.release(tx, row["id"])
            await rows.end(tx, row["id"], JobState.FAILED, code="", finished_at=now)
        # Receipts for them are older than the state in which the accounts with providers are taken up again.
        await forget_unanswered(tx)
        customers, providers = await accounts.begin_epochs(tx, now), await accounts.forget_mirrors(tx, now)
        await marks.begin(tx, now)
    logger.warning(
        "this home was restored from a backup; its books lack everything earned, paid and spent since the backup",
        made=datetime.fromtimestamp(copied_at).astimezone().isoformat(timespec="seconds"),
        jobs_dropped=len(waiting),
        payments_to_look_up=len(reserved),
        customers_begun_anew=customers,
        providers_taken_up_anew=providers,
    )
