from pylon.money.books import ledger
from pylon.money.books.report import By, Line, earnings
from pylon.money.msat import Msat

DAY = 86_400.0
ENTRIES = [
    ledger.topup_received(0, "aa", "h1", Msat(50_000)),
    ledger.charged(10, "aa", "j1", Msat(1_500)),
    ledger.charged(DAY, "bb", "j2", Msat(4_000)),
    *ledger.topup_paid(DAY, "pp", "h2", Msat(9_000), Msat(10)),
    *ledger.work_received(DAY, "pp", "pp/e/1", 700),
    *ledger.work_received(DAY, "qq", "qq/e/1", 900),
    *ledger.work_received(DAY, "qq", "qq/e/2", -900),
]


def test_earnings_are_summed_by_customer_day_and_model():
    assert earnings(ENTRIES, By.CUSTOMER) == [Line("bb", 1, 4_000), Line("aa", 1, 1_500)]
    assert earnings(ENTRIES, By.DAY) == [Line("1970-01-01", 1, 1_500), Line("1970-01-02", 1, 4_000)]
    models = {"j1": "small"}
    assert earnings(ENTRIES, By.MODEL, model_of=models) == [
        Line("?", 1, 4_000),
        Line("small", 1, 1_500),
    ]


def test_every_grouping_has_the_same_total():
    for by in By:
        assert sum(line.msat for line in earnings(ENTRIES, by)) == ledger.balances(ENTRIES)[ledger.EARNED] == 5_500
