"""A new need costs no more among many thousand providers than among a few thousand."""

import random

from pylon.jobs.announcement import OfferedModel
from pylon.swarm.dispatch import roster
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.dispatch.messages import Add, Send, SlotJob
from pylon.swarm.providers.directory import ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.settings import DispatchSettings


def opened(monkeypatch, *, rare: int = 0, need: Need | None = None, seed: int = 1):
    """A dispatcher that knows 200 providers where 20 are enough; and those that a first job looked at."""
    monkeypatch.setattr(roster, "ENOUGH", 20)
    dispatcher = Dispatcher(DispatchSettings(), random.Random(seed))
    for number in range(200):
        model = OfferedModel("rare" if number < rare else "common")
        dispatcher.handle(ProviderUp(Listing(f"{number:064x}", models=(model,))), 0.0)
    jobs = tuple(SlotJob(slot, need or Need(), 60.0, 60.0) for slot in range(300))
    return dispatcher, [command for command in dispatcher.handle(Add(jobs), 0.0) if isinstance(command, Send)]


def test_a_new_need_looks_at_enough_providers_only(monkeypatch):
    _, sent = opened(monkeypatch)
    assert len({send.provider for send in sent}) == 20


def test_a_rare_model_is_found_among_all(monkeypatch):
    _, sent = opened(monkeypatch, rare=3, need=Need(model="rare"))
    assert {send.provider for send in sent} == {f"{number:064x}" for number in range(3)}


def test_customers_begin_at_different_providers(monkeypatch):
    first, second = ({send.provider for send in opened(monkeypatch, seed=seed)[1]} for seed in (1, 2))
    assert first != second


def test_the_others_join_with_their_next_heartbeat(monkeypatch):
    dispatcher, sent = opened(monkeypatch)
    asked = {send.provider for send in sent}
    new = next(key for number in range(200) if (key := f"{number:064x}") not in asked)
    commands = dispatcher.handle(ProviderUp(Listing(new, models=(OfferedModel("common"),))), 1.0)
    assert new in {command.provider for command in commands if isinstance(command, Send)}
