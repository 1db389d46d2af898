"""A home that is opened, and what is left of it where that fails."""

from contextlib import AsyncExitStack

import pytest

from pylon import config as settings
from pylon.clock import SystemClock
from pylon.errors import SetupError, UsageError
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.node import identity, open_home, serving
from pylon.node.core import Core
from pylon.node.home import Home, HomeLock
from pylon.node.household.members import HouseholdFile
from pylon.node.open_home import OpenHome
from pylon.node.owner import OwnerWatch
from pylon.node.wallet.live import LIVE_FILE
from pylon.provider.service import Provider

CONFIG = settings.parse({"relays": ["ws://127.0.0.1:9"]})


@pytest.fixture
def home(tmp_path) -> Home:
    made = Home(tmp_path)
    made.create()
    identity.create(made.identity_file)
    return made


async def test_a_core_has_an_open_home_and_calls_for_as_long_as_it_was_entered(home):
    core = Core(home, CONFIG, serve=False)
    assert not core.methods
    with pytest.raises(UsageError, match="is not open"):
        _ = core.opened
    async with core:
        assert core.opened.home is home and core.opened.money is None and "ping" in core.methods
        with pytest.raises(SetupError, match="no wallet"):
            core.opened.need_money()


async def test_a_home_that_cannot_be_opened_whole_is_left_closed(home, monkeypatch):
    closed = []

    class Watched(AsyncExitStack):
        def push_async_callback(self, callback, /, *args, **kwds):
            closed.append(callback.__qualname__)
            return super().push_async_callback(callback, *args, **kwds)

    def refuse(*_, **__):
        raise SetupError("no relays today")

    monkeypatch.setattr(open_home, "RelayPool", refuse)
    async with Watched() as stack:
        with pytest.raises(SetupError, match="no relays today"):
            await OpenHome.open(
                stack,
                home,
                CONFIG,
                identity.load(home.identity_file),
                HouseholdFile(home.folder),
                SystemClock(),
                hub="",
            )
        assert closed == ["Database.close", "GroupCommit.close"]


async def test_a_permission_that_others_may_write_ends_the_start_before_the_database_is_opened(home):
    (home.folder / LIVE_FILE).write_bytes(b"{}")
    (home.folder / LIVE_FILE).chmod(0o666)
    with pytest.raises(SetupError, match="other users can write"):
        async with Core(home, CONFIG, serve=False):
            pass
    assert not home.database.exists()
    HomeLock(home).acquire()


async def test_a_start_with_a_hub_that_fails_founds_no_household(home, monkeypatch):
    async def refuse(*_, **__):
        raise SetupError("no serving today")

    monkeypatch.setattr("pylon.node.core.open_serving", refuse)
    core = Core(home, CONFIG, serve=True, hub="ws://127.0.0.1:9")
    with pytest.raises(SetupError, match="no serving today"):
        await core.__aenter__()
    assert HouseholdFile(home.folder).get() is None
    HomeLock(home).acquire()


@pytest.mark.parametrize("part", [OwnerWatch, Provider])
async def test_a_start_that_fails_on_its_way_leaves_nothing_of_the_serving_side_running(home, monkeypatch, part):
    ended = []

    async def inference(stack, *_):
        stack.callback(ended.append, "inference")
        return InferenceService(EngineSpec("instant", "stand-in-instant", slots=1), SystemClock())

    def closes(one: type) -> None:
        close = one.close

        async def closed(self) -> None:
            ended.append(one.__name__)
            await close(self)

        monkeypatch.setattr(one, "close", closed)

    async def half_way(_) -> None:
        raise OSError("half way")

    monkeypatch.setattr(serving, "open_inference", inference)
    monkeypatch.setattr(part, "start", half_way)
    closes(OwnerWatch)
    closes(Provider)
    config = settings.parse({"relays": ["ws://127.0.0.1:9"], "inference": {"model": "stand-in-instant"}})
    with pytest.raises(OSError, match="half way"):
        await Core(home, config, serve=True).__aenter__()
    # Jobs that were taken up are let go before the model is, or they would have failed with it.
    assert ended == ["Provider", "OwnerWatch", "inference"]
