"""What docs/money.md says is what there is: every code, network, limit and account."""

import re
from pathlib import Path

import pytest

from pylon.money import audit
from pylon.money.accounts import account, deposit
from pylon.money.accounts.mirror import Fault
from pylon.money.accounts.usage import UsageFault
from pylon.money.books import ledger
from pylon.money.invoices import allowance, invoice
from pylon.money.invoices.invoice import InvoiceCode
from pylon.money.invoices.receiver import ReceiveCode
from pylon.money.limits import PLAY_CAPS, Limit
from pylon.money.network import Network
from pylon.money.nwc import client as nwc
from pylon.money.payment import Refusal
from pylon.money.payments.agreed import FIRST, MOST
from pylon.money.payments.decision import Undecidable
from pylon.money.playbank import bank as playbank
from pylon.money.states import PaymentState
from pylon.money.wallet import WalletCode

NWC = Path(nwc.__file__).read_text()
_CODES = (
    Fault, UsageFault, Refusal, InvoiceCode, Limit, ReceiveCode, WalletCode, Network, PaymentState, Undecidable,
)  # fmt: skip
TEXT = (Path(__file__).parents[2] / "docs" / "money.md").read_text()


@pytest.mark.parametrize(
    "code",
    [code for codes in _CODES for code in codes],
)
def test_every_code_is_explained(code):
    assert f"`{code.value}`" in TEXT


def test_codes_differ_so_that_each_says_one_thing():
    seen: dict[str, object] = {}
    for codes in (Fault, UsageFault, Refusal, InvoiceCode, Limit, Undecidable):
        for code in codes:
            assert code.value not in seen, code
            seen[code.value] = code


def test_the_table_of_limits_holds_the_caps():
    for limit in Limit:
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{limit.value}`"))
        name = limit.value.removeprefix("limit_")
        for caps in (PLAY_CAPS, FIRST.caps):
            value = getattr(caps, name)
            assert (f"{value.whole_sats():,} sat" if name != "in_flight" else str(value)) in row


def test_the_figures_in_the_text_are_those_of_the_code():
    text = re.sub(r"\s+", " ", TEXT)  # wherever its lines end
    assert f"at most {account.TRIAL_JOB.whole_sats()} sat on credit" in text
    assert f"below {account.TRIAL_DAY.whole_sats()} sat that day" in text
    assert f"above {account.MOST_DEPOSIT.whole_sats():,} sat" in text
    assert f"{playbank.FAUCET_PER_DAY.whole_sats():,} play sat" in text
    assert f"at most {invoice.MAX_LENGTH:,} characters" in text
    assert f"less than {invoice.MIN_LEFT_S} seconds" in text.lower()
    assert f"{allowance.MAX_STRANGER_INVOICES} unpaid invoices" in text
    assert f"every {allowance.PACE_S:g} seconds" in text
    assert f"Beyond {MOST.payment:,} sat a payment, {MOST.day:,} a day and {MOST.all:,} in all" in text
    assert (deposit.FIRST_JOBS, deposit.GROWTH) == (3, 12)


def test_every_account_of_the_ledger_is_named():
    for name in (ledger.WALLET, ledger.EARNED, ledger.FOUND, ledger.SPENT, ledger.FEES):
        assert f"`{name}`" in TEXT
    for account_of in (ledger.customer("<key>"), ledger.provider("<key>"), ledger.by_hand("<node>")):
        assert f"| `{account_of}` |" in TEXT


@pytest.mark.parametrize("code", list(audit.Wrong))
def test_every_finding_of_an_audit_says_what_it_means_and_what_is_to_be_done(code):
    [row] = [line for line in TEXT.splitlines() if line.startswith(f"| `{code.value}` |") and line.count("|") == 4]
    _, _, means, do, _ = (cell.strip() for cell in row.split("|"))
    assert len(means.split()) > 5 and len(do.split()) > 2


def test_every_method_that_a_link_is_asked_for_is_listed():
    called = set(re.findall(r'_requests\.(?:read|make|call)\(\s*"([a-z_]+)"', NWC))
    assert called == {
        "get_info", "get_balance", "make_invoice", "lookup_invoice", "pay_invoice", "list_transactions",
    }  # fmt: skip
    for name in (*called, "payment_received", "payment_sent"):
        assert f"| `{name}`" in TEXT or f", `{name}` |" in TEXT
