"""The first start of a home that was restored from a backup."""

import pytest

from pylon.money import audit
from pylon.money.payments import store as payment_store
from pylon.node.open_home import SCHEMAS
from pylon.node.restored import begin_restored
from pylon.provider.intake.intake import for_provider
from pylon.provider.judge import LOOK_BACK_S
from pylon.provider.settings import ProviderSettings
from pylon.store import marks
from pylon.store.copy import copy_database
from pylon.store.database import Database

NOW = 1_700_000_000.0
JOBS = {"waits": "awaiting_funds", "queued": "queued", "signed": "signed", "settled": "settled"}


async def lived(path):
    database = await Database.open(path, SCHEMAS, label="play")
    async with database.transaction() as tx:
        for job, state in JOBS.items():
            await tx.execute(
                "INSERT INTO job (id, customer, kind, state, relay, received_at, expires_at, request)"
                " VALUES (?, 'cc', 5940, ?, 'ws://r', ?, ?, x'00')",
                (job, state, NOW, int(NOW) + 600),
            )
        await tx.execute("INSERT INTO money_account (customer, epoch, opened_at) VALUES ('cc', 'e', ?)", (NOW,))
        await tx.execute(
            "INSERT INTO money_hold (job, customer, quote, basis, state, at)"
            " VALUES ('queued', 'cc', 5, 'prepaid', 'held', ?)",
            (NOW,),
        )
        for name, state in {"h1": "reserved", "h2": "sending", "h3": "failed"}.items():
            await tx.execute(
                "INSERT INTO money_payment VALUES (?, ?, 'pp', 'r', 10000, 0, NULL, 'i', 'y', 0, ?, NULL, '', 0, 0)",
                (name, f"of {name}", state),
            )
        await tx.execute("INSERT INTO money_mirror VALUES ('pp', 'e', '', 4, 0, 0, 0, 0, NULL, 0, 0, 0)")
        await tx.execute("INSERT INTO swarm_run (id, digest, jobs, created_at) VALUES ('r', 'd', 2, ?)", (NOW,))
        for place, request in enumerate(("answered", "asked")):
            await tx.execute(
                "INSERT INTO swarm_request (request, run, place, provider, kind, created_at, expires_at, quote, bid,"
                " prompt_bytes, max_tokens, price) VALUES (?, 'r', ?, 'pp', 5050, ?, ?, 5, 5, 1, 1, '[0,0,0]')",
                (request, place, int(NOW), NOW + 600),
            )
        await tx.execute("INSERT INTO money_claim VALUES ('pp', 'e', 4, 'answered', 5, 0, 0, 0, ?, ?)", (NOW, NOW))
    return database


async def states(database) -> tuple[dict[str, str], dict[str, str]]:
    jobs = await database.fetch_all("SELECT id, state FROM job")
    payments = await database.fetch_all("SELECT payment_hash, state FROM money_payment")
    return {row[0]: row[1] for row in jobs}, {row[0]: row[1] for row in payments}


async def restored(tmp_path) -> Database:
    await (await lived(tmp_path / "a.db")).close()
    copy_database(tmp_path / "a.db", tmp_path / "b.db", label="play", at=NOW - 60, told=lambda *_: None)
    return await Database.open(tmp_path / "b.db", SCHEMAS, label="play")


async def test_what_the_world_went_on_with_is_not_gone_on_with_from_the_copy(tmp_path):
    database = await restored(tmp_path)
    await begin_restored(database, NOW)
    jobs, payments = await states(database)
    # Its customer may have an answer that was charged; what was signed is published again, the same event.
    assert jobs == JOBS | {"waits": "failed", "queued": "failed"}
    held = await database.fetch_one("SELECT state FROM money_hold")
    assert held is not None and held[0] == "released"
    # It may have been sent after the copy: a start looks up what was being sent, and lets go of what was reserved.
    assert payments == {"h1": "sending", "h2": "sending", "h3": "failed"}
    account = await database.fetch_one("SELECT epoch FROM money_account")
    mirror = await database.fetch_one("SELECT epoch, seq FROM money_mirror")
    assert account is not None and account[0] != "e" and mirror is not None and tuple(mirror) == ("", 0)
    assert audit.examine(await audit.collect(database)) == []
    # A run that is taken up looks for no result of before, whose receipt would open the account in the past.
    assert [row[0] for row in await database.fetch_all("SELECT request FROM swarm_request")] == ["answered"]
    await database.close()


async def test_it_is_done_once_and_to_copies_alone(tmp_path, caplog):
    original = await lived(tmp_path / "o.db")
    before = await states(original)
    await begin_restored(original, NOW)
    assert (await states(original), await marks.begun_at(original)) == (before, None)
    await original.close()
    database = await restored(tmp_path)
    await begin_restored(database, NOW)
    assert (await marks.copied_at(database), await marks.begun_at(database)) == (None, NOW)
    assert sum("restored from a backup" in record.getMessage() for record in caplog.records) == 1
    epoch = (await database.fetch_all("SELECT epoch FROM money_account"))[0][0]
    await begin_restored(database, NOW + 60)
    assert (await database.fetch_all("SELECT epoch FROM money_account"))[0][0] == epoch
    await database.close()


async def test_a_start_that_dies_in_the_middle_of_it_leaves_a_copy(tmp_path, monkeypatch):
    database = await restored(tmp_path)

    async def dies(*_: object) -> None:
        raise KeyError

    with monkeypatch.context() as patched:
        patched.setattr(payment_store, "move", dies)
        with pytest.raises(KeyError):
            await begin_restored(database, NOW)
    assert (await marks.copied_at(database), await marks.begun_at(database)) == (NOW - 60, None)
    assert (await states(database))[0] == JOBS
    await database.close()


def test_requests_from_before_a_restored_start_are_not_asked_for_and_a_clock_ahead_makes_nobody_deaf():
    settings = ProviderSettings()
    usual = for_provider("aa" * 32, settings, NOW)
    assert all(one.since == int(NOW) - LOOK_BACK_S for one in usual)
    assert all(one.since == int(NOW) - 20 for one in for_provider("aa" * 32, settings, NOW, NOW - 20))
    assert for_provider("aa" * 32, settings, NOW, NOW - 10 * LOOK_BACK_S) == usual
    # Of when that start was, a time to come says nothing.
    assert for_provider("aa" * 32, settings, NOW, NOW + 10_000) == usual
