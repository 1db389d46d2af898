"""The dispatcher hears of a provider what is new, and nothing twice."""

import random
import time
from dataclasses import dataclass, field, replace

from pylon.clock import SystemClock
from pylon.jobs.announcement import HOUSEHOLD
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.dispatch.messages import Failure, SwarmEvent
from pylon.swarm.job import failed
from pylon.swarm.outlook import Outlook
from pylon.swarm.providers.directory import Change, ProviderDown, ProviderUp
from pylon.swarm.providers.listing import LOADING, Listing, Need
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.settings import SwarmSettings
from tests.swarm.fakes import FakeProvider, FakeRelays


@dataclass
class Till:
    """Stands for a purse, as far as it is asked here."""

    widths: int | None = 1
    pays: bool = True

    def width(self, listing: Listing) -> int | None:
        return self.widths

    def barred(self, listing: Listing) -> str:
        return ""

    def funded(self, listing: Listing) -> bool:
        return self.pays


@dataclass
class Waits:
    """Stands for what finds relays: it makes providers wait while `holding`."""

    holding: bool = False
    gone_: list[str] = field(default_factory=list)

    def holds(self, listing: Listing) -> bool:
        return self.holding

    def gone(self, provider: str) -> None:
        self.gone_.append(provider)


class Told(Deciders):
    """What they are told is remembered, and nothing follows from it."""

    def __init__(self) -> None:
        super().__init__(SwarmSettings(checks=None), SystemClock(), random.Random(1), (), Reputation())
        self.told: list[SwarmEvent] = []

    def tell(self, event: SwarmEvent) -> None:
        self.told.append(event)


def setting():
    relays, deciders = FakeRelays(), Told()
    provider = FakeProvider(relays, now=time.time())
    for event in relays.stored.values():
        deciders.directory.observe(event, time.time())
    till, reach = Till(), Waits()
    outlook = Outlook(deciders, SystemClock(), purse=till, reach=reach)
    return outlook, deciders.directory.get(provider.public), till, reach, deciders


def ours(change: Change) -> tuple[int | None, bool]:
    assert isinstance(change, ProviderUp)
    return change.listing.width, change.listing.funded()


def test_a_receipt_that_changes_nothing_is_no_news_of_its_provider():
    outlook, listing, till, _, deciders = setting()
    told = deciders.told
    outlook.changed(ProviderUp(listing))
    outlook.reconsider(listing.provider)
    assert [ours(one) for one in told] == [(1, True)]
    till.widths = 0
    outlook.reconsider(listing.provider)
    outlook.reconsider(listing.provider)
    assert [ours(one) for one in told] == [(1, True), (0, True)]


def test_whether_money_of_ours_is_there_is_asked_when_it_matters():
    outlook, listing, till, _, deciders = setting()
    told = deciders.told
    outlook.changed(ProviderUp(listing))
    till.pays = False
    outlook.reconsider(listing.provider)
    assert [ours(one) for one in told] == [(1, False)]


def test_what_a_purse_allows_beyond_all_slots_is_no_news():
    outlook, listing, till, _, deciders = setting()
    told = deciders.told
    till.widths = 1_000
    outlook.changed(ProviderUp(listing))
    till.widths = 999
    outlook.reconsider(listing.provider)
    till.widths = listing.slots
    outlook.reconsider(listing.provider)
    assert [ours(one)[0] for one in told] == [8 * listing.slots, listing.slots]
    outlook.changed(ProviderUp(replace(listing, slots=0)))
    assert ours(told[-1])[0] == listing.slots, "one that says it has none is still given what the purse allows"


def test_what_a_provider_says_itself_is_always_passed_on():
    outlook, listing, _, _, deciders = setting()
    told = deciders.told
    outlook.changed(ProviderUp(listing))
    outlook.changed(ProviderUp(listing))
    assert len(told) == 2


def test_one_that_went_or_had_to_wait_is_told_of_anew():
    outlook, listing, _, reach, deciders = setting()
    told = deciders.told
    outlook.changed(ProviderUp(listing))
    outlook.changed(ProviderDown(listing.provider))
    outlook.reconsider(listing.provider)
    assert len(told) == 3 and reach.gone_ == [listing.provider]
    outlook.changed(ProviderDown(listing.provider))
    reach.holding = True
    outlook.changed(ProviderUp(listing))
    assert len(told) == 4
    reach.holding = False
    outlook.reconsider(listing.provider)
    assert [ours(one) for one in told[4:]] == [(1, True)]


def test_one_that_jobs_go_to_is_asked_on_by_what_it_says_now_while_its_new_relays_are_looked_for():
    outlook, listing, _, reach, deciders = setting()
    told = deciders.told
    outlook.changed(ProviderUp(listing))
    reach.holding = True
    outlook.changed(ProviderUp(replace(listing, name="dearer")))
    assert [one.listing.name for one in told] == [listing.name, "dearer"]


def test_a_household_is_left_alone_by_strangers_and_asked_by_its_own() -> None:
    outlook, listing, _, _, deciders = setting()
    told, circle = deciders.told, deciders.circle
    listing = replace(listing, network=HOUSEHOLD)
    outlook.changed(ProviderUp(listing))
    assert told[-1].listing.barred == outlook.why_not(Need(), listing) == "reserved for a household"
    circle.change(own=frozenset({listing.provider}), allow=None)
    outlook.changed(ProviderUp(listing))
    assert told[-1].listing.barred == outlook.why_not(Need(), listing) == ""


def test_one_that_is_left_alone_anyway_is_not_said_to_be_still_loading() -> None:
    outlook, listing, _, _, _ = setting()
    for network, why in (("", LOADING), (HOUSEHOLD, "reserved for a household")):
        loading = replace(listing, loading=True, network=network)
        outlook.changed(ProviderUp(loading))
        assert outlook.why_not(Need(), loading) == why


def test_who_wanted_to_be_paid_for_what_was_to_be_free_is_left_alone_until_it_announces_another_price():
    outlook, listing, _, _, _ = setting()
    assert outlook.why_not(Need(), listing) == ""
    outlook.wants_money(listing.provider)
    assert outlook.why_not(Need(), replace(listing, slots=3)) == "asking to be paid without announcing a price"
    priced = replace(listing, price=Price(Msat(5)), network="play")
    assert outlook.why_not(Need(bid=Msat(5), network="play"), priced) == ""
    outlook.changed(ProviderDown(listing.provider))
    assert outlook.why_not(Need(), listing) == ""


def test_who_is_not_paid_for_want_of_a_wallet_is_not_said_to_announce_no_price():
    outlook, listing, _, _, deciders = setting()
    relays = FakeRelays()
    priced = FakeProvider(relays, now=time.time(), price=Price(Msat(5)), network="play").public
    for event in relays.stored.values():
        deciders.directory.observe(event, time.time())
    outlook = Outlook(deciders, SystemClock(), purse=None, reach=None)
    need = Need(bid=Msat(5), network="play")
    told = outlook.why_unpaid(priced), outlook.why_unpaid(listing.provider)
    for provider in (priced, listing.provider):
        outlook.wants_money(provider)
    assert told == ("not paid, because no wallet is connected", "asking to be paid without announcing a price")
    assert outlook.lack(need, (), (10, 10)).reasons == dict.fromkeys(told, 1)
    assert "pylon wallet connect" in outlook.lack(need, (), (10, 10)).hint
    fault = failed(Failure.UNPAID, None, 1, told[0])
    assert str(fault).endswith("and nothing was paid: no wallet is connected") and "wallet connect" in fault.hint


def test_who_answered_us_in_an_earlier_process_is_familiar_and_known_by_its_key():
    relays = FakeRelays()
    asked, new = (FakeProvider(relays, now=time.time()).public for _ in range(2))
    reputation = Reputation()
    reputation.answered(asked, time.time())
    deciders = Deciders(SwarmSettings(), SystemClock(), random.Random(1), (), reputation)
    told: list[SwarmEvent] = []
    deciders.tell = told.append  # type: ignore[method-assign]
    outlook = Outlook(deciders, SystemClock(), purse=None, reach=None)
    for event in relays.stored.values():
        for change in deciders.directory.observe(event, time.time()):
            outlook.changed(change)
    seen = {one.listing.provider: one.listing.familiar for one in told if isinstance(one, ProviderUp)}
    assert seen == {asked: True, new: False}
    assert list(deciders.known()) == [asked]


def test_our_own_machines_and_who_alone_may_be_asked_are_known_whoever_else_answered():
    reputation = Reputation()
    reputation.answered("a" * 64, time.time())
    settings = SwarmSettings(own=frozenset({"b" * 64}), allow=frozenset({"c" * 64}))
    deciders = Deciders(settings, SystemClock(), random.Random(1), (), reputation)
    assert list(deciders.known()) == ["b" * 64, "c" * 64]
