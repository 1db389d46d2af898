"""`pylon earnings`: what customers were charged, and what the work took."""

import pytest

from pylon.errors import UsageError
from pylon.money import ledger
from pylon.money.electricity import Tariff
from pylon.money.ledger_store import book
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.node import accounting
from pylon.node.core import SCHEMAS
from pylon.store.database import Database

DAY = 86_400.0
METERED = Tariff(watts=100.0, price_per_kwh=0.3, currency="EUR", per_bitcoin=100_000.0)


@pytest.fixture
async def database(tmp_path):
    opened = await Database.open(tmp_path / "pylon.db", SCHEMAS, durability="NORMAL")
    # Two paid jobs that ran together for an hour, and a free one of half an hour the day after.
    rows = [("j1", "aa", "small", 7_200.0, 3_600), ("j2", "bb", "large", 7_200.0, 3_600)]
    async with opened.transaction() as tx:
        for job, customer, model, at, seconds in (*rows, ("j3", "cc", "small", DAY + 7_200, 1_800)):
            await tx.execute(
                "INSERT INTO job (id, customer, kind, state, relay, model, received_at, expires_at, finished_at,"
                " run_ms) VALUES (?, ?, 5940, 'settled', 'r', ?, 0, 0, ?, ?)",
                (job, customer, model, at, seconds * 1_000),
            )
        await book(
            tx, [ledger.charged(7_200, "aa", "j1", Msat(1_500)), ledger.charged(7_200, "bb", "j2", Msat(4_000))]
        )
    yield opened
    await opened.close()


async def earned(database, *, network=Network.MAINNET, tariff=METERED, **params):
    return await accounting.earnings(database, network, tariff, params)


async def test_electricity_is_that_of_the_machine_and_free_work_takes_some_too(database):
    data = await earned(database, by="model")
    by_model = {line["group"]: line for line in data["lines"]}
    assert (by_model["small"]["work_s"], by_model["large"]["work_s"]) == (3_600, 1_800)
    assert data["total"]["work_s"] == 5_400
    assert data["total"]["kwh"] == pytest.approx(0.15)
    assert data["total"]["electricity"] == pytest.approx(0.045)
    assert data["total"]["worth"] == pytest.approx(0.0055)
    assert (data["total_msat"], data["total"]["count"]) == (5_500, 2)


@pytest.mark.parametrize(("by", "groups"), [("customer", {"aa", "bb", "cc"}), ("day", {"1970-01-01", "1970-01-02"})])
async def test_every_grouping_has_the_same_totals(database, by, groups):
    data = await earned(database, by=by)
    assert {line["group"] for line in data["lines"]} == groups
    assert sum(line["work_s"] for line in data["lines"]) == data["total"]["work_s"] == 5_400
    assert sum(line["msat"] for line in data["lines"]) == 5_500


async def test_since_leaves_older_work_out(database):
    data = await earned(database, since=DAY)
    assert [(line["group"], line["msat"], line["work_s"]) for line in data["lines"]] == [("1970-01-02", 0, 1_800)]


async def test_no_currency_shows_unless_configured_and_play_money_is_worth_nothing(database):
    plain = await earned(database, tariff=Tariff())
    assert (plain["currency"], plain["total"]["kwh"], plain["total"]["worth"]) == ("", None, None)
    play = await earned(database, network=Network.PLAY)
    assert play["unit"] == "play sat"
    assert play["total"]["worth"] is None
    assert play["total"]["electricity"] is not None


async def test_an_unknown_grouping_is_refused(database):
    with pytest.raises(UsageError):
        await earned(database, by="provider")
