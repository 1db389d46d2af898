import asyncio
import os
import sys

import psutil

from pylon.host.awake import Awake, awake_command

# As `systemd-inhibit … cat` does: it holds until its input ends.
HOLDS = (sys.executable, "-c", "import sys; sys.stdin.read()")


async def gone(pid: int) -> bool:
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_it_is_held_once_and_let_go():
    awake = Awake(HOLDS)
    await awake.hold()
    pid = awake._process.pid
    await awake.hold()
    assert awake.held and awake._process.pid == pid
    await awake.release()
    assert not awake.held and await gone(pid)
    await awake.release()
    await awake.hold()
    assert awake.held and awake._process.pid != pid
    await awake.release()


async def test_one_that_ends_by_itself_or_is_not_there_is_not_tried_again():
    for command in ((sys.executable, "-c", "raise SystemExit(1)"), ("/no/such/program",)):
        awake = Awake(command)
        await awake.hold()
        if awake._process is not None:
            await awake._process.wait()
        await awake.hold()
        await awake.hold()
        assert not awake.held and awake._process is None


async def test_without_a_program_nothing_is_held():
    awake = Awake(())
    await awake.hold()
    assert not awake.held


async def test_a_process_that_is_killed_keeps_no_machine_awake():
    code = (
        "import asyncio\nfrom pylon.host.awake import Awake\n"
        f"async def main():\n    a = Awake({HOLDS!r})\n    await a.hold()\n    print(a._process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\nasyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    holding = int(await asyncio.wait_for(process.stdout.readline(), 60))
    assert psutil.pid_exists(holding)
    process.kill()
    await process.wait()
    assert await gone(holding)


def test_macs_use_caffeinate_which_ends_with_this_process(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert awake_command() == ("/usr/bin/caffeinate", "-i", "-w", str(os.getpid()))


def test_a_linux_that_systemd_does_not_run_has_no_such_program(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("pylon.host.awake.shutil.which", lambda _: None)
    assert awake_command() == ()
