import asyncio
import hashlib
import sqlite3
from dataclasses import replace

import pytest

from pylon.errors import MoneyError, SetupError
from pylon.money.invoices.invoice import check, decode
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.nwc.nip47 import ErrorCode
from pylon.money.playbank.bank import FAUCET_PER_DAY, BankError, PlayBank
from pylon.money.playbank.schema import PLAYBANK
from pylon.nostr.keys import SecretKey
from pylon.store.database import Database, Schema
from tests.money.craft import KEY, honest
from tests.money.fakes import clock

sats = Msat.from_sats
ALICE, BOB = "aa" * 32, "bb" * 32


class Bank:
    def __init__(self, path):
        self.path, self.clock = path / "bank.db", clock()

    async def start(self):
        self.database = await Database.open(self.path, [PLAYBANK], label="play", durability="NORMAL")
        self.bank = PlayBank(self.database, KEY, self.clock)
        self.alice = await self.bank.connect(ALICE, "alice", can_pay=True)
        self.bob = await self.bank.connect(BOB, "bob", can_pay=False)
        return self

    async def invoice(self, amount=5, account="bob", expiry_s=600):
        return await self.bank.make_invoice(account, sats(amount), description="work", expiry_s=expiry_s)

    async def refused(self, connection, text):
        before = await self.bank.balance("alice"), await self.bank.balance("bob")
        with pytest.raises(BankError) as caught:
            await self.bank.pay(connection, text)
        assert (await self.bank.balance("alice"), await self.bank.balance("bob")) == before
        return caught.value.code


@pytest.fixture
async def bank(tmp_path):
    bank = await Bank(tmp_path).start()
    await bank.bank.faucet("alice", sats(100))
    yield bank
    await bank.database.close()


async def test_an_invoice_is_a_real_one_of_the_banks_key(bank):
    made = await bank.invoice()
    invoice = decode(made.invoice)
    assert check(invoice, network=Network.PLAY, now=bank.clock.wall()) == sats(5)
    assert invoice.payee[2:] == KEY.public
    assert hashlib.sha256(bytes.fromhex(made.preimage)).hexdigest() == invoice.payment_hash == made.payment_hash


async def test_a_payment_moves_money_once_however_often_it_is_asked_for(bank):
    made = await bank.invoice()
    results = await asyncio.gather(*(bank.bank.pay(bank.alice, made.invoice) for _ in range(20)))
    assert [moved for _, moved in results].count(True) == 1
    assert {paid.preimage for paid, _ in results} == {made.preimage}
    assert (await bank.bank.balance("alice"), await bank.bank.balance("bob")) == (sats(95), sats(5))


async def test_what_the_bank_refuses_has_the_codes_of_nip47(bank):
    made = await bank.invoice()
    carol = await bank.bank.connect("cc" * 32, "carol", can_pay=True)
    assert await bank.refused(carol, made.invoice) is ErrorCode.INSUFFICIENT_BALANCE
    assert await bank.refused(bank.alice, honest(5)) is ErrorCode.PAYMENT_FAILED
    assert await bank.refused(bank.alice, "junk") is ErrorCode.PAYMENT_FAILED
    own = await bank.invoice(account="alice")
    assert await bank.refused(bank.alice, own.invoice) is ErrorCode.PAYMENT_FAILED
    short = await bank.invoice(expiry_s=1)
    bank.clock.advance(1)
    assert await bank.refused(bank.alice, short.invoice) is ErrorCode.PAYMENT_FAILED
    await bank.bank.pay(bank.alice, made.invoice)
    await bank.bank.faucet("carol", sats(9))
    assert await bank.refused(carol, made.invoice) is ErrorCode.PAYMENT_FAILED


async def test_a_budget_is_a_connections_and_comes_back_with_time(bank):
    limited = await bank.bank.connect("dd" * 32, "alice", can_pay=True, budget=sats(10), budget_period_s=60)
    await bank.bank.pay(limited, (await bank.invoice(8)).invoice)
    assert await bank.refused(limited, (await bank.invoice(3)).invoice) is ErrorCode.QUOTA_EXCEEDED
    await bank.bank.pay(bank.alice, (await bank.invoice(3)).invoice)
    bank.clock.advance(61)
    await bank.bank.pay(limited, (await bank.invoice(10)).invoice)


async def test_budgets_hold_under_fifty_payments_at_once(bank):
    limited = await bank.bank.connect("dd" * 32, "alice", can_pay=True, budget=sats(20))
    invoices = [await bank.invoice(2) for _ in range(50)]
    results = await asyncio.gather(
        *(bank.bank.pay(limited, made.invoice) for made in invoices), return_exceptions=True
    )
    assert sum(not isinstance(result, BankError) for result in results) == 10
    assert await bank.bank.balance("bob") == sats(20)


async def test_the_faucet_is_capped_a_day(bank):
    await bank.bank.faucet("alice", FAUCET_PER_DAY - sats(100))
    with pytest.raises(BankError) as caught:
        await bank.bank.faucet("alice", Msat(1))
    assert caught.value.code is ErrorCode.QUOTA_EXCEEDED
    assert "play sat" in str(caught.value)
    bank.clock.advance(86_401)
    assert await bank.bank.faucet("alice", sats(1)) == FAUCET_PER_DAY + sats(1)
    with pytest.raises(BankError):
        await bank.bank.faucet("alice", Msat(0))
    with pytest.raises(MoneyError):
        await bank.bank.connect("ee" * 32, "faucet", can_pay=True)


@pytest.mark.parametrize("amount", [Msat(0), Msat(1), Msat(1_500), sats(10_000_001)])
async def test_invoices_are_for_whole_sats(bank, amount):
    with pytest.raises(BankError):
        await bank.bank.make_invoice("bob", amount, description="", expiry_s=60)


async def test_an_account_sees_its_own_invoices_and_payments_only(bank):
    made = await bank.invoice()
    assert await bank.bank.find("alice", payment_hash=made.payment_hash) is None
    await bank.bank.pay(bank.alice, made.invoice)
    for account in ("alice", "bob"):
        assert (await bank.bank.find(account, payment_hash=made.payment_hash)).settled_at
        assert len(await bank.bank.history(account, limit=9, offset=0, since=0, until=2**40)) == 1
    assert await bank.bank.find("carol", text=made.invoice) is None


async def test_a_key_may_do_what_was_said_of_it_and_another_nothing(bank):
    assert await bank.bank.connection(ALICE) == bank.alice
    assert await bank.bank.connection(BOB) == replace(bank.alice, client=BOB, account="bob", can_pay=False)
    assert await bank.bank.connection("cc" * 32) is None


async def test_entries_cannot_be_changed(bank):
    for sql in ("UPDATE bank_entry SET msat = 1", "DELETE FROM bank_entry"):
        with pytest.raises(sqlite3.IntegrityError):
            async with bank.database.transaction() as tx:
                await tx.execute(sql)


async def test_a_banks_database_is_not_a_wallets(bank):
    await bank.database.close()
    with pytest.raises(SetupError):
        await Database.open(bank.path, [PLAYBANK], label="mainnet")
    await bank.start()


async def test_money_is_neither_made_nor_lost(bank):
    for number in range(30):
        made = await bank.invoice(number % 3 + 1, account="bob" if number % 2 else "carol")
        await bank.bank.pay(bank.alice, made.invoice)
    held = [await bank.bank.balance(account) for account in ("alice", "bob", "carol")]
    assert sum(held) == sats(100)


def test_other_keys_make_other_payees():
    assert decode(honest(5, key=SecretKey(b"\x09" * 32))).payee != decode(honest(5)).payee


def balances_by_entries(rows):
    found = {}
    for source, target, msat in rows:
        found[source], found[target] = found.get(source, 0) - msat, found.get(target, 0) + msat
    return found


async def test_what_accounts_hold_is_what_their_entries_add_up_to_in_a_bank_from_before_it_was_kept_too(tmp_path):
    old = await Database.open(tmp_path / "bank.db", [Schema("playbank", PLAYBANK.migrations[:1])], label="play")
    async with old.transaction() as tx:
        for n, way in enumerate((("faucet", "alice"), ("faucet", "bob"), ("alice", "bob"))):
            await tx.execute(
                "INSERT INTO bank_entry (at, reference, source, target, msat) VALUES (0, ?, ?, ?, 7000)", (n, *way)
            )
    await old.close()
    bank = await Bank(tmp_path).start()
    await bank.bank.faucet("alice", sats(50))
    await bank.bank.pay(bank.alice, (await bank.invoice(5)).invoice)
    held = dict(await bank.database.fetch_all("SELECT account, msat FROM bank_balance"))
    assert held == balances_by_entries(await bank.database.fetch_all("SELECT source, target, msat FROM bank_entry"))
    assert await bank.bank.balance("alice") == sats(45)
    assert await bank.bank.balance("bob") == sats(19)
    await bank.database.close()


async def test_a_payment_of_an_account_with_a_long_history_takes_no_more_steps(tmp_path):
    counted = []
    for size in (3, 300):
        (tmp_path / str(size)).mkdir()
        bank = await Bank(tmp_path / str(size)).start()
        await bank.bank.faucet("alice", sats(500))
        async with bank.database.transaction() as tx:
            await tx.execute_many(
                "INSERT INTO bank_entry (at, reference, source, target, msat) VALUES (0, ?, 'alice', 'bob', 10)",
                [(str(n),) for n in range(size)],
            )
        rounds = []
        connection = bank.database._writer.connection
        connection.set_progress_handler(lambda rounds=rounds: rounds.append(1), 1)
        await bank.bank.pay(bank.alice, (await bank.invoice(5)).invoice)
        await bank.bank.faucet("alice", sats(5))
        connection.set_progress_handler(None, 1)
        counted.append(len(rounds))
        await bank.database.close()
    assert 0 < counted[1] <= counted[0]


async def test_what_was_spent_while_the_date_was_a_year_ahead_uses_no_budget_up_until_then(bank):
    limited = await bank.bank.connect("dd" * 32, "alice", can_pay=True, budget=sats(10), budget_period_s=60)
    bank.clock.set_by(365 * 86_400)
    await bank.bank.faucet("alice", FAUCET_PER_DAY - sats(100))
    await bank.bank.pay(limited, (await bank.invoice(8)).invoice)
    bank.clock.set_by(-365 * 86_400)
    await bank.bank.faucet("alice", sats(200))
    await bank.bank.pay(limited, (await bank.invoice(8)).invoice)
