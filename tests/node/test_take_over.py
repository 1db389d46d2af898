"""`pylon start` while another command has the home."""

import asyncio
from pathlib import Path

import pytest

from pylon import config as settings
from pylon.cli.start import _take_over
from pylon.errors import HomeBusyError
from pylon.node import identity
from pylon.node.core import Core
from pylon.node.home import Home, HomeLock
from pylon.relay.server import RelayServer


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    identity.create(made.identity_file)
    return made


async def test_start_waits_for_a_command_says_whose_and_keeps_the_home_from_then_on(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pylon", "map", "a secret prompt"])
    async with RelayServer() as relay:
        config = settings.parse({"relays": [relay.url], "inference": {"engine": "instant"}})
        said = ""
        async with Core(home, config, serve=False), asyncio.timeout(30):
            waiting = asyncio.create_task(_take_over(home, config, ""))
            while not said:
                await asyncio.sleep(0.05)
                said = capsys.readouterr().err
            assert not waiting.done()
        assert "`pylon map` (process " in said
        assert "secret" not in said
        core = await waiting
        # A command that comes before the node is up does not get in between.
        with pytest.raises(HomeBusyError):
            HomeLock(home).acquire()
        async with core:
            assert core.serving is not None
            with pytest.raises(HomeBusyError):
                HomeLock(home).acquire()
        after = HomeLock(home)
        after.acquire()
        after.release()
