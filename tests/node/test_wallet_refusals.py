"""A payment by hand that is refused."""

from pathlib import Path

import pytest

from pylon.money.invoices.invoice import InvoiceError, decode
from pylon.money.limits import Limit
from pylon.money.payment import PaymentRefusedError, Refusal
from pylon.money.payments.refused import refused
from pylon.node.wallet.refusals import explained


@pytest.mark.parametrize("code", [*Refusal, *Limit])
def test_a_refusal_to_pay_by_hand_is_a_sentence_with_a_hint(code):
    told = explained(refused(code))
    assert code.value in str(told) and len(str(told).split()) > 6
    assert told.hint


def test_what_is_wrong_with_an_invoice_is_said_with_the_code_that_the_hint_explains():
    with pytest.raises(InvoiceError) as wrong:
        decode("no invoice")
    told = explained(PaymentRefusedError(wrong.value.code, str(wrong.value)))
    assert str(told) == f"nothing was paid: {wrong.value} ({wrong.value.code.value})"
    assert "docs/money.md" in told.hint and f"`{wrong.value.code.value}`" in Path("docs/money.md").read_text()
