"""An audit that finds nothing must be able to find something: each book is bent once."""

from dataclasses import replace

import pytest

from pylon.money import audit
from pylon.money.audit import Books
from pylon.money.books import ledger
from pylon.money.msat import ZERO, Msat
from pylon.money.network import Network
from pylon.money.payment import DECIDED, NEVER_SENT
from pylon.money.wallet import Lookup, LookupState
from tests.money.craft import NOW, honest
from tests.money.fakes import FakeLightning, clock


def invoice(**changes: object) -> dict[str, object]:
    return {"payment_hash": "h1", "customer": "aa", "msat": 9_000, "state": "settled", **changes}


SENT = {"invoice": honest(5), "reserved_at": NOW + 60.0}


def payment(**changes: object) -> dict[str, object]:
    return {"payment_hash": "h2", "provider": "pp", "msat": 5_000, "fee": 20, "state": "settled", **SENT, **changes}


def receipt(seq: int, charge: int, total: int, job: str) -> dict[str, object]:
    return {"customer": "aa", "epoch": "e", "seq": seq, "charge": charge, "charged_total": total, "job": job}


ENTRIES = [
    ledger.topup_received(0, "aa", "h1", Msat(9_000)),
    ledger.charged(1, "aa", "j1", Msat(1_500)),
    ledger.charged(2, "aa", "j2", Msat(500)),
    *ledger.topup_paid(4, "pp", "h2", Msat(5_000), Msat(20)),
    *ledger.work_received(5, "pp", "pp/e/1", 700),
    *ledger.paid_by_hand(6, "02ff", "h3", Msat(800), Msat(3)),
]
CLEAN = Books(
    entries=ENTRIES,
    sums=ledger.sums(ENTRIES),
    invoices=[invoice(), invoice(payment_hash="h9", state="expired")],
    payments=[
        payment(),
        payment(payment_hash="h3", provider="payee:02ff", msat=800, fee=3),
        payment(payment_hash="h8", state="failed", reason=NEVER_SENT, fee=None),
    ],
    receipts=[receipt(1, 1_500, 1_500, "j1"), receipt(2, 500, 2_000, "j2")],
    mirrors={"pp": 4_300},
)


def test_clean_books_are_clean():
    assert audit.examine(CLEAN) == []


@pytest.mark.parametrize(
    ("books", "code"),
    [
        (replace(CLEAN, sums={**CLEAN.sums, ("wallet", "topup_paid"): (0, 4_999)}), "sum"),
        (replace(CLEAN, sums={**CLEAN.sums, ("customer:cc", "topup_received"): (0, 1)}), "sum"),
        (replace(CLEAN, sums={}), "sum"),
        (replace(CLEAN, entries=CLEAN.entries[:-1]), "sum"),
        (replace(CLEAN, invoices=[]), "invoice"),
        (replace(CLEAN, invoices=[invoice(msat=8_000)]), "invoice"),
        (replace(CLEAN, entries=CLEAN.entries[1:]), "invoice"),
        (replace(CLEAN, payments=[]), "payment"),
        (replace(CLEAN, payments=[payment(state="unknown")]), "payment"),
        (replace(CLEAN, payments=CLEAN.payments[:1]), "payment"),
        (replace(CLEAN, payments=[*CLEAN.payments, payment(payment_hash="h4", fee=0)]), "payment"),
        (replace(CLEAN, entries=[*CLEAN.entries, *ledger.paid_by_hand(7, "02", "h2", Msat(5_000), ZERO)]), "payment"),
        (replace(CLEAN, payments=[payment(provider="qq"), *CLEAN.payments[1:]]), "payment"),
        (replace(CLEAN, payments=[payment(fee=0)]), "fee"),
        (replace(CLEAN, receipts=CLEAN.receipts[:-1]), "charge"),
        (replace(CLEAN, receipts=[*CLEAN.receipts, receipt(3, -500, 1_500, "j3")]), "charge"),
        (replace(CLEAN, receipts=CLEAN.receipts[1:]), "charge"),
        (replace(CLEAN, receipts=[receipt(2, 1_500, 1_500, "j1"), *CLEAN.receipts[1:]]), "receipt"),
        (replace(CLEAN, receipts=[receipt(1, 1_500, 1_400, "j1"), *CLEAN.receipts[1:]]), "receipt"),
        (replace(CLEAN, entries=[*CLEAN.entries[:2], *CLEAN.entries[3:]]), "charge"),
        (replace(CLEAN, invoices=[invoice(customer="bb")]), "account"),
        (replace(CLEAN, mirrors={"pp": 4_301}), "mirror"),
        (replace(CLEAN, entries=CLEAN.entries[:5]), "mirror"),
    ],
)
def test_bent_books_are_found(books, code):
    assert code in {finding.code for finding in audit.examine(books)}


def test_what_older_books_have_of_a_payment_by_hand_as_a_provider_s_holds_too():
    entries = [*CLEAN.entries[:6], *ledger.topup_paid(6, "payee:02ff", "h3", Msat(800), Msat(3))]
    assert audit.examine(replace(CLEAN, entries=entries, sums=ledger.sums(entries))) == []


async def test_a_wallet_that_differs_or_says_nothing_is_found():
    wallet = FakeLightning(clock()).wallet()
    assert {f.code for f in await audit.compare_with_wallet(wallet, CLEAN)} == {"wallet_differs"}
    assert wallet.since == NOW, "the last one that was asked about is a payment, and as old as its invoice"
    wallet.lookup_as = lambda _: Lookup(LookupState.SETTLED)
    assert await audit.compare_with_wallet(wallet, CLEAN) == []
    books = replace(CLEAN, payments=[payment()])
    for lookup, differences in (
        (Lookup(LookupState.SETTLED, amount=Msat(9_000)), 1),  # of the payment
        (
            Lookup(LookupState.SETTLED, amount=Msat(5_000), fee=Msat(20)),
            1,
        ),  # of the invoice, of which too little came
        (Lookup(LookupState.SETTLED, fee=Msat(7_000)), 1),
    ):
        wallet.lookup_as = lambda _, lookup=lookup: lookup
        found = await audit.compare_with_wallet(wallet, books)
        assert [f.code for f in found] == ["wallet_differs"] * differences
    # What the owner decided: its fee is of whole sats, and its amount is compared all the same.
    decided = replace(CLEAN, invoices=[], payments=[payment() | {"reason": DECIDED}])
    for lookup, differences in (
        (Lookup(LookupState.SETTLED, fee=Msat(7_000)), 0),
        (Lookup(LookupState.SETTLED, amount=Msat(9_000)), 1),
    ):
        wallet.lookup_as = lambda _, lookup=lookup: lookup
        assert len(await audit.compare_with_wallet(wallet, decided)) == differences
    wallet.down = True
    findings = await audit.compare_with_wallet(wallet, CLEAN)
    assert [f.code for f in findings] == ["wallet_silent"] * 3
    assert all(f.text for f in findings)


@pytest.mark.parametrize(
    ("reason", "codes"),
    [
        ("insufficient_balance", ["paid_after_all"]),
        ("payment_failed", ["paid_after_all"]),
        ("wallet_unreachable", []),
    ],
)
async def test_what_was_sent_and_counts_as_failed_is_asked_about_though_the_wallet_refused_it(reason, codes):
    wallet = FakeLightning(clock()).wallet()
    books = replace(CLEAN, invoices=[], payments=[payment(state="failed", reason=reason, fee=None)])
    assert await audit.compare_with_wallet(wallet, books) == []
    wallet.lookup_as = lambda _: Lookup(LookupState.SETTLED)
    assert [found.code for found in await audit.compare_with_wallet(wallet, books)] == codes
    wallet.down = True
    silent = ["wallet_silent"] if reason == "payment_failed" else []
    assert [found.code for found in await audit.compare_with_wallet(wallet, books)] == silent


def test_money_that_is_not_live_says_so():
    assert Network.MAINNET.unit == "sat"
    assert {n.unit for n in Network if not n.is_live} == {f"{n.value} sat" for n in Network if not n.is_live}
