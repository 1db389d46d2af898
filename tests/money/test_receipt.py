import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError
from pylon.money.accounts.receipt import AccountReceipt, AccountSeen, new_epoch, parse_receipt, parse_seen
from pylon.money.msat import MAX_MSAT, Msat

EPOCH = "00112233445566ff"
AMOUNTS = st.integers(0, MAX_MSAT).map(Msat)


def test_a_receipt_is_five_values():
    receipt = AccountReceipt(EPOCH, 7, 1_500, Msat(9_000), Msat(20_000))
    assert receipt.to_tag() == ("account", EPOCH, "7", "1500", "9000", "20000")


@given(st.integers(1, 10**12), st.integers(-MAX_MSAT, MAX_MSAT), AMOUNTS, AMOUNTS)
def test_a_receipt_survives_the_wire(seq, charge, charged, paid):
    receipt = AccountReceipt(new_epoch(), seq, charge, charged, paid)
    assert parse_receipt(receipt.to_tag()) == receipt


@given(st.integers(0, 10**12), AMOUNTS)
def test_an_acknowledgement_survives_the_wire(seq, charged):
    seen = AccountSeen(new_epoch(), seq, charged)
    assert parse_seen(seen.to_tag()) == seen


@pytest.mark.parametrize(
    "tag",
    [
        ("account",),
        ("account", EPOCH, "1", "0", "0"),
        ("account", EPOCH, "1", "0", "0", "0", "0"),
        ("account-seen", EPOCH, "1", "0", "0", "0"),
        ("account", "short", "1", "0", "0", "0"),
        ("account", EPOCH.upper(), "1", "0", "0", "0"),
        ("account", EPOCH, "0", "0", "0", "0"),
        ("account", EPOCH, "-1", "0", "0", "0"),
        ("account", EPOCH, "1.0", "0", "0", "0"),
        ("account", EPOCH, "1", "0", "-1", "0"),
        ("account", EPOCH, "1", "0", "0", "1e3"),
        ("account", EPOCH, "1", "", "0", "0"),
        ("account", EPOCH + "\n", "1", "0", "0", "0"),
    ],
)
def test_a_malformed_receipt_is_refused(tag):
    with pytest.raises(MalformedError):
        parse_receipt(tag)


@pytest.mark.parametrize(
    "tag",
    [
        ("account-seen", EPOCH, "1"),
        ("account", EPOCH, "1", "0"),
        ("account-seen", "x", "1", "0"),
        ("account-seen", EPOCH, "1", "-1"),
    ],
)
def test_a_malformed_acknowledgement_is_refused(tag):
    with pytest.raises(MalformedError):
        parse_seen(tag)


def test_epochs_differ():
    assert len({new_epoch() for _ in range(100)}) == 100
