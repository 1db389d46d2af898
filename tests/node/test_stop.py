"""`pylon stop` where no node serves: a command has the home, which is said at once, and ended only when asked."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon import config as settings
from pylon.cli import stop as command
from pylon.errors import HomeBusyError, UsageError
from pylon.node import identity
from pylon.node.control import result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.methods import _command
from pylon.node.session import LocalNode
from pylon.relay.server import RelayServer
from tests.node import programs


async def test_a_command_that_has_the_home_is_named_at_once_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.create()
    identity.create(home.identity_file)
    monkeypatch.setenv("PYLON_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["/somewhere/pylon", "map", "a secret prompt"])
    async with RelayServer() as relay:
        async with Core(home, settings.parse({"relays": [relay.url]}), serve=False) as core:
            async with asyncio.timeout(10):
                with pytest.raises(HomeBusyError, match=r"`pylon map` \(process \d+, since [\d:]+\)") as told:
                    await command._stop(now=False, timeout=60, as_json=True)
            assert "secret" not in str(told.value) and "--now" in told.value.hint
            # Nor does any other program's call end what a command does.
            with pytest.raises(UsageError):
                await result_of(LocalNode(core), "stop", {"at_once": True})
            assert not core.stopping.is_set()


def test_a_program_that_is_no_command_is_called_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    named = []
    for argv in (["/x/bin/pylon", "rlm", "q"], ["/x/pylon/cli/main.py", "ask", "q"], ["customer.py", "100"], [""]):
        monkeypatch.setattr("sys.argv", argv)
        named.append(_command())
    assert named == ["pylon rlm", "pylon ask", "customer.py", ""]


async def test_now_ends_that_command_and_a_node_that_waited_for_the_home_may_have_it_by_then(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(tmp_path / "home", relay.url)
        await programs.run("init", env=env)
        gateway = await programs.serve("gateway", "--port", "0", env=env, stack=stack)
        code, said, _ = await programs.run("stop", env=env)
        assert code == HomeBusyError.exit_code
        assert f"`pylon gateway` (process {gateway.process.pid}" in said["error"]["message"]
        assert gateway.process.returncode is None
        waiting = asyncio.create_task(programs.start(env, stack))
        code, said, _ = await programs.run("stop", "--now", env=env)
        assert (code, said) == (0, {"stopped": True})
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 0
        node = await waiting
        assert (await programs.run("stop", env=env))[0] == 0
        assert await asyncio.wait_for(node.process.wait(), 30) == 0
