"""Which node of a provider is paid: the first one, until a person trusts the one that it offers."""

import pytest

from pylon.errors import UsageError
from pylon.money.msat import Msat
from pylon.money.payments import payees as payee_store
from tests.money.craft import NOW
from tests.money.fakes import open_database

THEM, OLD, NEW, NEWER = "aa" * 32, "02" + "11" * 32, "02" + "22" * 32, "02" + "33" * 32


@pytest.fixture
async def database(tmp_path):
    database = await open_database(tmp_path)
    async with database.transaction() as tx:
        await payee_store.pin(tx, THEM, OLD, NOW)
    yield database
    await database.close()


async def offer(database, payee: str, at: float = NOW) -> None:
    async with database.transaction() as tx:
        await payee_store.offered(tx, THEM, payee, at)


async def trust(database, pinned: str, offered: str, provider: str = THEM) -> payee_store.Offer:
    async with database.transaction() as tx:
        return await payee_store.trust(tx, provider, pinned=pinned, offered=offered, now=NOW)


async def pinned(database) -> str:
    return (await database.fetch_one("SELECT payee FROM money_payee WHERE provider = ?", (THEM,)))["payee"]


async def settled(database, number: int, payee: str, state: str = "settled") -> None:
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO money_payment VALUES (?, ?, ?, 'r', 7000, 10, 3, 'i', ?, 0, ?, 'p', '', 0, 0)",
            (f"{number:064x}", f"j{number}", THEM, payee, state),
        )


async def test_an_offer_shows_both_nodes_and_what_was_paid_to_the_pinned_one(database):
    await settled(database, 1, OLD)
    await settled(database, 2, OLD)
    await settled(database, 3, OLD, "failed")
    await settled(database, 4, NEWER)
    await offer(database, NEW)
    assert await payee_store.offers(database) == [payee_store.Offer(THEM, OLD, NEW, Msat(14_000), NOW)]


async def test_what_is_trusted_is_pinned_and_no_offer_any_more(database):
    await offer(database, NEW)
    assert (await trust(database, OLD, NEW)).offered == NEW
    assert (await pinned(database), await payee_store.offers(database)) == (NEW, [])


async def test_an_offer_that_changed_since_it_was_shown_is_not_trusted(database):
    await offer(database, NEW)
    await offer(database, NEWER, NOW + 1)
    for old, new in ((OLD, NEW), (NEW, NEWER), (NEWER, OLD)):
        with pytest.raises(UsageError, match="yet another node") as caught:
            await trust(database, old, new)
        assert caught.value.hint
    assert (await pinned(database), (await payee_store.offers(database))[0].offered) == (OLD, NEWER)


async def test_nothing_is_trusted_that_was_not_offered(database):
    for provider in (THEM, "bb" * 32):
        with pytest.raises(UsageError, match="does not ask"):
            await trust(database, OLD, NEW, provider)
    assert await pinned(database) == OLD


async def test_a_payment_to_the_pinned_node_ends_the_offer_and_none_moves_the_pin(database):
    await offer(database, NEW)
    async with database.transaction() as tx:
        await payee_store.pin(tx, THEM, OLD, NOW + 9)
    assert await payee_store.offers(database) == []
    async with database.transaction() as tx:
        await payee_store.pin(tx, THEM, NEW, NOW + 9)
    assert await pinned(database) == OLD
