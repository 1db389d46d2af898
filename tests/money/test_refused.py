"""A payment that is refused says why in words."""

import pytest

from pylon.money.limits import Limit
from pylon.money.payment import Refusal
from pylon.money.payments.refused import WHY, refused


@pytest.mark.parametrize("code", [*Refusal, *Limit])
def test_every_refusal_is_a_sentence_with_its_code_behind(code):
    said = str(refused(code))
    assert said == f"nothing was paid: {WHY[code]} ({code.value})"
    assert len(WHY[code].split()) > 3


@pytest.mark.parametrize("code", [Refusal.JOB_IN_FLIGHT, Refusal.TOPUP_IN_FLIGHT, Limit.IN_FLIGHT])
def test_what_is_refused_for_a_payment_of_unknown_outcome_names_what_ends_that(code):
    assert "`pylon wallet decide`" in str(refused(code))
