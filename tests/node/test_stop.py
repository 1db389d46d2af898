"""`pylon stop` where no node serves: a command has the home, which is said at once, and ended only when asked."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from typer.exceptions import TyperException

from pylon import config as settings
from pylon.cli import stop as command
from pylon.cli.program import app
from pylon.errors import HomeBusyError, InterruptError, UnreachableError, UsageError
from pylon.node import identity
from pylon.node.calls.protocol import result_of
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
            async with asyncio.timeout(30):
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


@pytest.mark.parametrize("asking", ["map", "ask"])
async def test_now_ends_a_command_that_a_script_has_in_the_background(tmp_path: Path, asking: str) -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        slow = programs.environment(tmp_path / "serves", relay.url, PYLON_INFERENCE__INSTANT_DELAY_S="600")
        env = programs.environment(tmp_path / "asks", relay.url)
        for one in (slow, env):
            await programs.run("init", env=one)
        await programs.start(slow, stack)
        file = tmp_path / "p.txt"
        file.write_text("".join(f"line {n}\n" for n in range(50)))
        # What a shell does for `&` where it has no jobs of its own.
        deaf = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), "stderr": asyncio.subprocess.PIPE}
        process = await programs.spawn(asking, str(file), "--json", env=env, **deaf)
        stack.push_async_callback(process.communicate)
        async with asyncio.timeout(60):
            while (await programs.run("stop", env=env))[0] != HomeBusyError.exit_code:
                await asyncio.sleep(0.1)
        assert (await programs.run("stop", "--now", env=env))[:2] == (0, {"stopped": True})
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == InterruptError.exit_code and b'"InterruptError"' in printed


async def test_what_does_not_end_is_named_by_its_process_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.create()
    identity.create(home.identity_file)
    monkeypatch.setenv("PYLON_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["pylon", "map", "p.txt"])
    sent = []
    monkeypatch.setattr(command.os, "kill", lambda *told: sent.append(told))
    async with RelayServer() as relay, Core(home, settings.parse({"relays": [relay.url]}), serve=False):
        with pytest.raises(UnreachableError, match=r"`pylon map` \(process \d+, .* did not end within 0.2 s") as told:
            await command._stop(now=True, timeout=0.2, as_json=True)
    [(pid, number)] = sent
    assert number is signal.SIGTERM and told.value.hint == f"Run `kill -9 {pid}` to end it at once."
    serving = {"serving": True, "pid": 7}
    assert command._still_there(serving, now=False, timeout=1).hint == "Run `pylon stop --now` to end it sooner."
    late = command._still_there(serving, now=True, timeout=1)
    assert "process 7" in str(late) and "kill -9 7" in late.hint


async def test_a_node_and_a_relay_have_a_last_word_in_their_window_when_they_are_told_to_end(tmp_path: Path) -> None:
    """Whoever looked at it could not tell one that had ended from one that hung."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(tmp_path / "home", relay.url)
        await programs.run("init", env=env)

        async def window(*arguments: str) -> asyncio.subprocess.Process:
            process = await programs.spawn(*arguments, env=env, stderr=asyncio.subprocess.PIPE)
            stack.callback(lambda: process.kill() if process.returncode is None else None)
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), programs.READY_S)
            return process

        node = await window("start")
        assert (await programs.run("stop", env=env))[1] == {"stopped": True}
        lines = (await asyncio.wait_for(node.communicate(), 60))[1].decode().splitlines()
        assert "`pylon stop` asked this node to end: finishing the current jobs …" in lines and lines[-1] == "stopped"
        again = await window("start")
        again.send_signal(signal.SIGINT)
        lines = (await asyncio.wait_for(again.communicate(), 60))[1].decode().splitlines()
        assert lines[-1] == "stopped" and not any("pylon stop" in line for line in lines)
        own = await window("relay", "--port", "0")
        own.send_signal(signal.SIGINT)
        shown = (await asyncio.wait_for(own.communicate(), 60))[0].decode().splitlines()
        assert shown[-1] == "the relay has ended"


@pytest.mark.parametrize("call", [("stop", "--timeout"), ("start", "--drain-s"), ("service", "run", "--drain-s")])
@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_a_time_that_cannot_be_waited_is_refused_before_anything_is_told_to_stop(
    call: tuple[str, ...], seconds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYLON_HOME", str(tmp_path / "none"))
    with pytest.raises(TyperException, match="greater than or equal to 0"):
        app([*call, seconds], standalone_mode=False)
