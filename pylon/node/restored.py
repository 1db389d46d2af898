"""The first start of a home that was restored from a backup (`pylon backup`).

After the copy was made, jobs that are waiting in it may have been answered, payments that it has reserved may have
been sent, and accounts may have moved on. So, before anything is served, asked or paid, the database is brought into
a state from which a node can safely go on. docs/backup.md lists what is done.
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
    """Raises `SetupError` if the home is a backup itself, and not a copy of one that was put in a home's place.

    A node that started with the backup would change it, and two homes that are restored from it later would sign
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
    """Prepares a copy with which no node has started yet, in one transaction; does nothing to any other database.

    `now` is in Unix seconds.
    """
    copied_at = await marks.copied_at(database)
    if copied_at is None:
        return
    # Imported here, so that a node that only serves does not load the customer's modules.
    from pylon.swarm.runs.journal import forget_unanswered

    async with database.transaction() as tx:
        reserved = await payment_store.in_state(tx, PaymentState.RESERVED)
        for payment in reserved:
            # It may have been sent after the copy was made. As SENDING, it is looked up at the wallet.
            await payment_store.move(tx, payment.payment_hash, PaymentState.SENDING, "", now)
        waiting = await tx.fetch_all("SELECT id FROM job WHERE state IN ('awaiting_funds', 'queued')")
        for row in waiting:
            # The job may have been answered after the copy was made, and must not be charged twice.
            await account_store.release(tx, row["id"])
            await rows.end(tx, row["id"], JobState.FAILED, code="", finished_at=now)
        # The receipts of these jobs are older than the state from which the accounts with providers will continue.
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
