"""The database keeps what the entries of each account add up to; whatever happens, that is what they add up to."""

import asyncio
import os
import signal
import sqlite3
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.money import audit
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.msat import Msat
from pylon.money.schema import MONEY
from pylon.store.database import Database, Schema
from pylon.store.steps import statements
from tests.money.craft import NOW
from tests.money.fakes import open_database

# Before sums were kept.
OLD = Schema(MONEY.room, MONEY.migrations[:7])
ENTRIES = [
    ledger.topup_received(NOW, "aa", "h1", Msat(9_000)),
    ledger.topup_received(NOW, "aa", "h2", Msat(1_000)),
    ledger.charged(NOW, "aa", "j1", Msat(1_500)),
    *ledger.topup_paid(NOW, "pp", "h3", Msat(5_000), Msat(20)),
    *ledger.work_received(NOW, "pp", "pp/e/1", 700),
    *ledger.work_received(NOW, "pp", "pp/e/2", -200),
]


async def kept(database):
    return await ledger_store.sums(database), ledger.sums(await ledger_store.entries(database))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(ledger.Kind)),
            st.integers(0, 9),
            st.sampled_from(["wallet", "earned", "provider:a", "customer:b"]),
            st.sampled_from(["spent", "fees", "provider:c", "customer:d"]),
            st.integers(-1, 10**12),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_sums_are_those_of_the_entries_whatever_is_written_refused_written_twice_or_undone(rows):
    books = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (one for migration in MONEY.migrations for one in statements(migration)):
        books.execute(statement)
    for kind, reference, debit, credit, msat, undone in rows:
        books.execute("BEGIN")
        try:
            books.execute(
                "INSERT INTO money_ledger (at, kind, reference, debit, credit, msat) VALUES (0, ?, ?, ?, ?, ?)"
                " ON CONFLICT (kind, reference) DO NOTHING",
                (kind.value, str(reference), debit, credit, msat),
            )
        except sqlite3.IntegrityError:
            assert msat <= 0
        books.execute("ROLLBACK" if undone else "COMMIT")
    entries = [
        ledger.Entry(0.0, ledger.Kind(kind), reference, debit, credit, Msat(msat))
        for kind, reference, debit, credit, msat in books.execute(
            "SELECT kind, reference, debit, credit, msat FROM money_ledger"
        )
    ]
    found = {
        tuple(row[:2]): tuple(row[2:]) for row in books.execute("SELECT account, kind, debit, credit FROM money_sum")
    }
    books.close()
    assert found == ledger.sums(entries)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE money_sum SET credit = credit - 1 WHERE credit",
        "UPDATE money_sum SET debit = 0 WHERE debit",
        "UPDATE money_sum SET account = 'x' WHERE account = 'fees'",
        "DELETE FROM money_sum",
    ],
)
async def test_the_database_itself_lets_no_sum_shrink(tmp_path, sql):
    database = await open_database(tmp_path)
    async with database.transaction() as tx:
        await ledger_store.book(tx, ENTRIES)
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        async with database.transaction() as tx:
            await tx.execute(sql)
    await database.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE money_sum SET credit = credit + 1 WHERE account = 'wallet' AND kind = 'topup_paid'",
        "INSERT INTO money_sum VALUES ('customer:cc', 'topup_received', 0, 5)",
        "DROP TRIGGER money_sum_no_delete; DELETE FROM money_sum WHERE account = 'wallet'",
        "DROP TRIGGER money_ledger_summed; INSERT INTO money_ledger (at, kind, reference, debit, credit, msat)"
        " VALUES (0, 'charged', 'j', 'customer:aa', 'earned', 5)",
    ],
)
async def test_an_audit_finds_a_sum_that_is_not_that_of_its_entries(tmp_path, sql):
    database = await open_database(tmp_path)
    async with database.transaction() as tx:
        await ledger_store.book(tx, ENTRIES)
    assert audit.Wrong.SUM not in {one.code for one in audit.examine(await audit.collect(database))}
    async with database.transaction() as tx:
        for statement in statements(sql + ";"):
            await tx.execute(statement)
    assert audit.Wrong.SUM in {one.code for one in audit.examine(await audit.collect(database))}
    await database.close()


async def old_books(path) -> None:
    old = await Database.open(path, [OLD])
    async with old.transaction() as tx:
        await ledger_store.book(tx, ENTRIES)
        await tx.execute(
            "INSERT INTO money_payment VALUES"
            " ('h3', 'j', 'pp', '', 5000, 30, 20, 'i', 'y', 0, 'settled', 'p', '', 0, 0)"
        )
    await old.close()


async def test_the_entries_of_an_old_database_are_summed_and_those_that_follow(tmp_path):
    await old_books(tmp_path / "old.db")
    for number in range(2):
        database = await Database.open(tmp_path / "old.db", [MONEY])
        async with database.transaction() as tx:
            await ledger_store.book(tx, [ledger.charged(NOW, "aa", f"new{number}", Msat(300))])
        sums, expected = await kept(database)
        assert sums == expected
        assert sums["customer:aa", "topup_received"] == (0, 10_000)
        assert sums["earned", "charged"] == (0, 1_500 + 300 * (number + 1))
        await database.close()


DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from pylon.money.schema import MONEY
from pylon.store import database

left, execute = int(sys.argv[2]), database.Transaction.execute

async def dying(self, sql, values=()):
    global left
    done = await execute(self, sql, values)
    if "meta" not in sql:
        left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

database.Transaction.execute = dying
asyncio.run(database.Database.open(Path(sys.argv[1]), [MONEY]))
"""


@pytest.mark.parametrize("left", [1, 2, 8])
async def test_a_process_that_is_killed_as_it_sums_an_old_database_leaves_it_whole(tmp_path, left):
    path = tmp_path / "old.db"
    await old_books(path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", DIE, str(path), str(left), env=environment)
    assert await dying.wait() == -signal.SIGKILL
    untouched = await Database.open(path, [OLD])
    assert await untouched.fetch_all("SELECT name FROM sqlite_schema WHERE name LIKE 'money_sum%'") == []
    assert await ledger_store.entries(untouched) == ENTRIES
    await untouched.close()
    database = await Database.open(path, [MONEY])
    sums, expected = await kept(database)
    assert sums == expected
    assert sums
    await database.close()
