"""How much may be out with a provider, by how we stand with it, and what people are told."""

import pytest

from pylon.money.accounts.mirror import Fault
from pylon.money.accounts.receipt import AccountSeen
from pylon.money.msat import Msat
from pylon.money.price import FREE, Price
from pylon.swarm.spending.relation import Relation

PRICE = Price(Msat(100))
ENDED = next(iter(Fault))
SEEN = AccountSeen("e", 1, Msat(10))


@pytest.mark.parametrize(
    "barred", [{"ended": ENDED}, {"suspended": True}, {"unpaid_until": 9.0}], ids=["ended", "suspended", "unpaid"]
)
def test_nothing_goes_where_money_is_in_dispute_or_an_invoice_is_open_though_ours_is_there(barred) -> None:
    assert Relation(balance=300, quote=Msat(100)).width(PRICE) == 3
    relation = Relation(balance=300, quote=Msat(100), **barred)
    assert relation.width(PRICE) == relation.width(FREE) == 0


def test_as_many_jobs_may_be_out_as_our_money_there_covers_and_one_at_least() -> None:
    assert [Relation(balance=held, quote=Msat(100)).width(PRICE) for held in (-50, 0, 99, 100, 399)] == [
        1,
        1,
        1,
        1,
        3,
    ]
    assert Relation().width(PRICE) == 1
    assert Relation().width(FREE) is None


def test_people_are_told_what_lasts_and_what_is_worst_first() -> None:
    relation = Relation(unpaid_why="not paid")
    assert relation.barred == "", "that invoice has run out"
    relation.unpaid_until = 9.0
    assert relation.barred == "not paid"
    relation.suspended = True
    assert "receipts are missing" in relation.barred and "for up to" in relation.barred
    relation.ended = ENDED
    assert relation.barred == f"avoided because a receipt was wrong ({ENDED.value})"


def test_a_job_runs_there_without_a_payment_on_our_money_or_a_stranger_s_on_trial() -> None:
    assert Relation().funded, "nobody knows us there yet"
    assert not Relation(asked=True).funded, "it asked to be paid first"
    assert not Relation(seen=SEEN).funded, "it had its trial"
    assert [Relation(seen=SEEN, balance=held, quote=Msat(100)).funded for held in (99, 100)] == [False, True]
    for ended, suspended in ((ENDED, False), (None, True)):
        assert not Relation(ended=ended, suspended=suspended).funded
        assert not Relation(ended=ended, suspended=suspended, balance=300, quote=Msat(100)).funded


def test_a_stranger_is_offered_what_its_job_needs_beyond_what_is_there_though_nothing_more_can_be_paid() -> None:
    def offered(balance: int) -> int:
        relation = Relation(balance=balance)
        return relation.topup(Msat(2_500), jobs_left=9, most=Msat(100_000), now=0.0, affordable=Msat(0))

    assert [offered(balance) for balance in (0, 400, 500, 2_400, 2_500, 9_000)] == [3_000, 3_000, 2_000, 1_000, 0, 0]
