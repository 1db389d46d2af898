"""Applies the owner rules: reads the machine every few seconds, and pauses the provider while a rule holds."""

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

# Not more often, since a reading may start a program or two. When a person sits down, jobs in progress run on anyway,
# so a few seconds change little.
EVERY_S = 10.0


class OwnerWatch:
    """See the module. Must be started before the provider, which would otherwise announce a machine that may not
    serve.

    `every_s` is the time between two readings. `awake` keeps the machine from sleeping while jobs are in progress.
    """

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
        """Starts to watch. Returns after the first reading."""
        await self.look()
        self._tasks.start(forever(self._turn, "owner"), "owner")

    async def look(self) -> None:
        """Reads the machine and applies the rules once."""
        self._readings = await self._reader.read()
        self._judge()

    async def close(self) -> None:
        try:
            await self._tasks.close()
        finally:
            await self._awake.release()

    def waive(self, seconds: float) -> None:
        """Suspends the rules for so many seconds, except those that protect the machine; 0 ends the suspension.

        Raises `UsageError` for more than `MOST_WAIVED_S`.
        """
        if not seconds <= MOST_WAIVED_S:
            raise UsageError(
                f"owner rules can be suspended for at most {MOST_WAIVED_S / 86_400:.0f} days",
                hint="For a permanent change, edit [owner] in config.toml.",
            )
        self._rules.waive(seconds, wall=self._clock.wall(), boot=self._clock.boot())
        self._judge()

    def status(self) -> dict[str, Any]:
        """The `owner` field of `status`: the ruling of each rule, and when the suspension of the rules ends, if there
        is one.

        Times are in Unix seconds. `…_local` is the same time in this machine's zone, which schedules go by: the
        client may be in another one.
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
        # Reads the time zone again: a laptop may have travelled to another.
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
