"""That nobody takes a job, and what whoever waits for it can do."""

import random
import time

import pytest

from pylon.clock import SystemClock
from pylon.jobs.announcement import OfferedModel
from pylon.money.limits import Limit
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.money.wallet import WalletCode
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.outlook import Outlook
from pylon.swarm.providers.lack import STOPPED, TOO_DEAR, Lack, Quoted, limited
from pylon.swarm.providers.listing import Need
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.spending.unpaid import LASTING
from tests.swarm.fakes import FakeProvider, FakeRelays

_CAPS = {
    Limit.PAYMENT: "--payment", Limit.FEE: "--payment", Limit.JOB: "--payment",
    Limit.DAY: "--day", Limit.RUN: "--day", Limit.ALL: "--all",
}  # fmt: skip


def hint(*reasons: str) -> str:
    return Lack(Need(), 3, 3, dict.fromkeys(reasons, 1)).hint


@pytest.mark.parametrize("code", [code for code, why in LASTING.items() if "one of our limits" in why])
def test_whoever_reached_a_limit_hears_which_and_what_raises_it(code):
    told = Lack(Need(), 1, 1, {LASTING[code]: 1}).error()
    assert code in str(told)
    if code is WalletCode.QUOTA_EXCEEDED:
        assert "Raise it in the wallet" in told.hint
    else:
        assert f"pylon wallet go-live {_CAPS[Limit(code)]}" in told.hint


def test_a_model_that_gives_shorter_answers_than_were_counted_says_how_to_ask_for_less():
    """Its quote goes by what was asked for: 512 tokens where nobody says, of a model that stops at 12."""
    need = Need(prompt_tokens=512, max_tokens=512, bid=Msat(100))
    told = Lack(need, 1, 1, {TOO_DEAR: 1}, (), Quoted(131, 512, 512, 12)).hint
    assert "up to 131 msat for 512 prompt tokens and 512 answer tokens, though it gives at most 12." in told
    assert "ask for 12 `max_tokens`" in told
    for longest in (0, 512, 4_096):
        told = Lack(need, 1, 1, {TOO_DEAR: 1}, (), Quoted(131, 512, 512, longest)).hint
        assert "512 answer tokens. " in told and "ask for fewer `max_tokens`" in told


def test_the_cheapest_of_several_is_quoted():
    deciders = Deciders(SwarmSettings(checks=None), SystemClock(), random.Random(1), (), Reputation())
    for price, longest in ((900, 12), (300, 40), (700, 0)):
        relays = FakeRelays()
        model = OfferedModel("m", max_completion_tokens=longest)
        FakeProvider(relays, now=time.time(), price=Price(Msat(price)), network="play", model=model)
        for event in relays.stored.values():
            deciders.directory.observe(event, time.time())
    outlook = Outlook(deciders, SystemClock(), purse=None, reach=None)
    assert outlook.lack(Need(network="play"), (), (64, 512)).cheapest == Quoted(300, 64, 512, 40)
    assert outlook.lack(Need(network="play", bid=Msat(900)), (), (64, 512)).cheapest is None


def test_what_is_wrong_with_us_is_said_before_what_strangers_ask():
    assert "go-live --day" in hint(TOO_DEAR, limited(Limit.DAY))
    assert "STOP" in hint(limited(Limit.DAY), STOPPED)
