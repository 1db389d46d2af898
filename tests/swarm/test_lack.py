"""That nobody takes a job, and what whoever waits for it can do."""

import pytest

from pylon.money.limits import Limit
from pylon.money.wallet import WalletCode
from pylon.swarm.providers.lack import STOPPED, TOO_DEAR, Lack, limited
from pylon.swarm.providers.listing import Need
from pylon.swarm.spending.unpaid import LASTING

_CAPS = {
    Limit.PAYMENT: "--payment", Limit.FEE: "--payment", Limit.JOB: "--payment",
    Limit.DAY: "--day", Limit.RUN: "--day", Limit.ALL: "--all",
}  # fmt: skip


def hint(*reasons: str) -> str:
    return Lack(Need(), 3, 3, dict.fromkeys(reasons, 1)).hint


@pytest.mark.parametrize("code", [code for code, why in LASTING.items() if "a limit of ours" in why])
def test_whoever_reached_a_limit_hears_which_and_what_raises_it(code):
    told = Lack(Need(), 1, 1, {LASTING[code]: 1}).error()
    assert code in str(told)
    if code is WalletCode.QUOTA_EXCEEDED:
        assert "raise it there" in told.hint
    else:
        assert f"pylon wallet go-live {_CAPS[Limit(code)]}" in told.hint


def test_what_is_wrong_with_us_is_said_before_what_strangers_ask():
    assert "go-live --day" in hint(TOO_DEAR, limited(Limit.DAY))
    assert "STOP" in hint(limited(Limit.DAY), STOPPED)
