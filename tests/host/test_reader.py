import asyncio
import subprocess
import sys
import threading

from pylon.host.reader import Reader
from pylon.host.readings import Power, Readings, Sense
from tests.waiting import until

POWER = Power(on_battery=True, percent=50)


class Slow:
    """A fake machine that answers when it is let."""

    def __init__(self) -> None:
        self.let, self.asked = threading.Event(), 0

    def power(self) -> Power:
        self.asked += 1
        self.let.wait(30)
        return POWER


async def test_a_machine_that_hangs_is_unknown_and_asked_by_one_thread_only():
    machine = Slow()
    reader = Reader(machine, frozenset({Sense.POWER}), within_s=0.02)
    for _ in range(3):
        assert await reader.read() == Readings()
    # However late its thread begins.
    await until(lambda: machine.asked)
    assert await reader.read() == Readings()
    assert machine.asked == 1
    machine.let.set()
    async with asyncio.timeout(20):
        while await reader.read() == Readings():
            pass
    assert await Reader(machine, frozenset({Sense.POWER})).read() == Readings(power=POWER)


async def test_what_nobody_wants_starts_no_thread(monkeypatch):
    monkeypatch.setattr(threading, "Thread", None)
    machine = Slow()
    assert await Reader(machine, frozenset()).read() == Readings()
    assert machine.asked == 0


def test_a_process_ends_while_its_machine_hangs():
    code = (
        "import asyncio, time\nfrom pylon.host.reader import Reader\nfrom pylon.host.readings import Sense\n"
        "class Hangs:\n    def power(self): time.sleep(600)\n"
        "print(asyncio.run(Reader(Hangs(), frozenset({Sense.POWER}), 0.05).read()).power)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "None\n"
