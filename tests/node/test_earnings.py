"""`pylon earnings`: what customers were charged, and what the work took."""

import pytest

from pylon.cli import earnings as command
from pylon.errors import UsageError
from pylon.money.books import ledger
from pylon.money.books.electricity import Tariff
from pylon.money.books.store import book
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.node.open_home import SCHEMAS
from pylon.node.wallet import earnings
from pylon.store.database import Database

DAY = 86_400.0
METERED = Tariff(watts=100.0, price_per_kwh=0.3, currency="EUR", per_bitcoin=100_000.0)


_JOB = (
    "INSERT INTO job (id, customer, kind, state, relay, model, received_at, expires_at, finished_at, run_ms,"
    " prompt_tokens, completion_tokens) VALUES (?, ?, 5940, ?, 'r', ?, 0, 0, ?, ?, ?, ?)"
)


@pytest.fixture
async def database(tmp_path):
    opened = await Database.open(tmp_path / "pylon.db", SCHEMAS, durability="NORMAL")
    # Two paid jobs that ran together for an hour, and a free one of half an hour the day after.
    rows = [("j1", "aa", "small", 7_200.0, 3_600), ("j2", "bb", "large", 7_200.0, 3_600)]
    async with opened.transaction() as tx:
        for job, customer, model, at, seconds in (*rows, ("j3", "cc", "small", DAY + 7_200, 1_800)):
            await tx.execute(_JOB, (job, customer, "settled", model, at, seconds * 1_000, 100, 7))
        await book(
            tx, [ledger.charged(7_200, "aa", "j1", Msat(1_500)), ledger.charged(7_200, "bb", "j2", Msat(4_000))]
        )
    yield opened
    await opened.close()


async def earned(database, *, network=Network.MAINNET, tariff=METERED, **params):
    return await earnings.earnings(database, network, tariff, params)


async def test_electricity_is_that_of_the_machine_and_free_work_takes_some_too(database):
    data = await earned(database, by="model")
    by_model = {line["group"]: line for line in data["lines"]}
    assert (by_model["small"]["work_s"], by_model["large"]["work_s"]) == (3_600, 1_800)
    assert data["total"]["work_s"] == 5_400
    assert data["total"]["kwh"] == pytest.approx(0.15)
    assert data["total"]["electricity"] == pytest.approx(0.045)
    assert data["total"]["worth"] == pytest.approx(0.0055)
    assert (data["total"]["earned_msat"], data["total"]["paid_jobs"]) == (5_500, 2)


@pytest.mark.parametrize(("by", "groups"), [("customer", {"aa", "bb", "cc"}), ("day", {"1970-01-01", "1970-01-02"})])
async def test_every_grouping_has_the_same_totals(database, by, groups):
    data = await earned(database, by=by)
    assert {line["group"] for line in data["lines"]} == groups
    assert sum(line["work_s"] for line in data["lines"]) == data["total"]["work_s"] == 5_400
    assert sum(line["earned_msat"] for line in data["lines"]) == 5_500


async def test_since_leaves_older_work_out(database):
    data = await earned(database, since=DAY)
    assert [(line["group"], line["earned_msat"], line["work_s"]) for line in data["lines"]] == [
        ("1970-01-02", 0, 1_800)
    ]


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


@pytest.mark.parametrize("by", ["customer", "day", "model"])
async def test_what_was_served_for_free_is_counted_apart_and_what_nobody_got_is_neither(database, by):
    async with database.transaction() as tx:
        # Without a result: one that failed after a second of work, one that was taken back while it waited.
        for job, state, ran in (("j4", "failed", 1_000), ("j5", "cancelled", 0), ("j6", "expired", 0)):
            await tx.execute(_JOB, (job, "cc", state, "small", DAY + 9_000, ran, 100, 7))
        await tx.execute(_JOB, ("j7", "aa", "undelivered", "small", DAY + 9_000, 0, 20, 3))
        # It waits: nothing is known of it yet.
        await tx.execute(_JOB, ("j8", "dd", "queued", "small", None, 0, 0, 0))
    data = await earned(database, by=by)
    total = data["total"]
    assert (total["paid_jobs"], total["free_jobs"]) == (2, 2)
    assert (total["free_prompt_tokens"], total["free_completion_tokens"]) == (120, 10)
    free = {line["group"]: (line["paid_jobs"], line["free_jobs"]) for line in data["lines"]}
    assert (
        free
        == {
            "customer": {"aa": (1, 1), "bb": (1, 0), "cc": (0, 1)},
            "day": {"1970-01-01": (2, 0), "1970-01-02": (0, 2)},
            "model": {"large": (1, 0), "small": (1, 2)},
        }[by]
    )


async def test_a_job_that_was_charged_before_the_days_that_are_shown_is_not_free(database):
    async with database.transaction() as tx:
        await tx.execute(_JOB, ("j9", "aa", "settled", "small", DAY + 1, 0, 100, 7))
        await book(tx, [ledger.charged(DAY - 1, "aa", "j9", Msat(5))])
    assert (await earned(database, since=DAY))["total"]["free_jobs"] == 1


async def test_the_table_and_csv_name_paid_and_free_jobs(database, capsys):
    data = await earned(database, by="customer", tariff=Tariff())
    said = [column.header for column in command._table(data, "customer").columns]
    assert said == ["customer", "paid jobs", "earned", "free jobs", "free tokens"]
    command._csv(data, "customer")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == (
        "customer,paid_jobs,earned_msat,free_jobs,free_prompt_tokens,free_completion_tokens,work_s,kwh,electricity,worth,"
        "currency,network"
    )
    assert "cc,0,0,1,100,7,1800.0,,,,,mainnet" in lines
    assert "all" not in {line.split(",")[0] for line in lines}
