"""The owner's side of serving: reads the machine every few seconds, and has its provider keep the owner's rules."""

import asyncio
import time
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pylon import log
from pylon.clock import Clock
from pylon.errors import UsageError
from pylon.forever import forever
from pylon.host.awake import Awake
from pylon.host.reader import Reader
from pylon.host.readings import Machine, Readings
from pylon.node.hindrance import OWNER
from pylon.provider.owner.rulings import MOST_WAIVED_S, OwnerRules, Ruling, reason
from pylon.provider.service import Provider
from pylon.sections import OwnerSection
from pylon.tasks import Tasks

logger = log.get("node")

# A person who sits down is met by what runs anyway: a few seconds more change nothing, while each look may start a
# program or two.
EVERY_S = 10.0


class OwnerWatch:
    """Started before the provider, so that nobody hears of a machine that is not to serve."""

    def __init__(
        self,
        machine: Machine,
        rules: OwnerRules,
        provider: Provider,
        settings: OwnerSection,
        clock: Clock,
        awake: Awake | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._reader = Reader(machine, rules.needs)
        self._rules = rules
        self._provider = provider
        self._settings = settings
        self._clock = clock
        self._awake = awake or Awake(None if settings.keep_awake else ())
        self._every_s = every_s
        self._readings = Readings()
        self._rulings: tuple[Ruling, ...] = ()
        self._tasks = Tasks()

    async def start(self) -> None:
        """Returns when the machine was read once."""
        await self.look()
        self._tasks.start(forever(self._turn, "owner"), "owner")

    async def look(self) -> None:
        """Reads the machine, and has the provider keep the rules."""
        self._readings = await self._reader.read()
        self._judge()

    async def close(self) -> None:
        try:
            await self._tasks.close()
        finally:
            await self._awake.release()

    def waive(self, seconds: float) -> None:
        """Serves for so long although a rule holds, unless it is one that protects the machine; 0 ends that.

        Raises `UsageError` for more than 30 days.
        """
        if not seconds <= MOST_WAIVED_S:
            raise UsageError(
                f"owner rules can be suspended for at most {MOST_WAIVED_S / 86_400:.0f} days",
                hint="For a permanent change, edit [owner] in config.toml.",
            )
        self._rules.waive(seconds, wall=self._clock.wall(), boot=self._clock.boot())
        self._judge()

    def status(self) -> dict[str, Any]:
        """`rules`: what each says, and since when it holds (`began_at`); `waiver_ends_at`, None where none is waived.

        `…_local` is the same by the clock of this node, which schedules go by: who asks may live by another.
        """
        until = self._rules.waived_until(wall=self._clock.wall(), boot=self._clock.boot())
        rules = [_rule(ruling) for ruling in self._rulings]
        return {"rules": rules, "waiver_ends_at": until, "waiver_ends_local": _local(until)}

    async def _turn(self) -> None:
        await asyncio.sleep(self._every_s)
        await self.look()
        if self._provider.busy:
            await self._awake.hold()
        else:
            await self._awake.release()

    def _judge(self) -> None:
        wall = self._clock.wall()
        # A laptop may have travelled to another time zone.
        time.tzset()
        before = {ruling.name for ruling in self._rulings if ruling.holds}
        self._rulings = self._rules.decide(
            self._readings,
            datetime.fromtimestamp(wall),
            now=self._clock.monotonic(),
            wall=wall,
            boot=self._clock.boot(),
        )
        for ruling in self._rulings:
            if ruling.holds and ruling.name not in before:
                logger.info("an owner rule holds", rule=ruling.name, reading=ruling.reading, until=ruling.ends)
            elif not ruling.holds and ruling.name in before:
                logger.info("an owner rule no longer holds", rule=ruling.name, reading=ruling.reading)
        why = reason(self._rulings)
        self._provider.hold(why, why if self._settings.say_why else OWNER if why else "")


def _rule(ruling: Ruling) -> dict[str, Any]:
    rule = asdict(ruling)
    del rule["since"]
    return {**rule, "began_at": ruling.since, "began_local": _local(ruling.since)}


def _local(wall: float | None) -> str | None:
    return None if wall is None else datetime.fromtimestamp(wall).astimezone().isoformat(timespec="seconds")
