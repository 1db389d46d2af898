"""A payment by hand that is refused."""

import pytest

from pylon.money.limits import Limit
from pylon.money.payment import Refusal
from pylon.money.payments.refused import refused
from pylon.node.wallet.paying import in_words


@pytest.mark.parametrize("code", [*Refusal, *Limit])
def test_a_refusal_to_pay_by_hand_is_a_sentence_with_a_hint(code):
    told = in_words(refused(code))
    assert code.value in str(told) and len(str(told).split()) > 6
    assert told.hint
