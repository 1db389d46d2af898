"""Why nothing new is taken on: its owner says so, an owner rule, its end that comes, or a disk that takes nothing."""

from pylon.provider.journal import Journal
from pylon.provider.writable import Writable

# Where the journal keeps its owner's reason.
PAUSED = "paused"


class Closed:
    """Each of the reasons lasts beside the others. What is there already is finished in any case."""

    def __init__(self, journal: Journal, disk: Writable) -> None:
        self.draining = False
        self._journal = journal
        self._disk = disk
        self._paused = ""
        # Which owner rules hold, and what others hear of them. Whoever watches them says so; it is written nowhere.
        self._held, self._held_told = "", ""

    async def start(self) -> None:
        """A pause by hand lasts over restarts."""
        self._paused = await self._journal.setting(PAUSED)

    async def pause(self, reason: str) -> None:
        """Its owner says so, over restarts too."""
        await self._journal.remember(PAUSED, reason)
        self._paused = reason

    async def resume(self) -> None:
        """Ends a pause by hand, and a drain."""
        await self._journal.remember(PAUSED, "")
        self._paused = ""
        self.draining = False

    def hold(self, reason: str, told: str) -> bool:
        """Owner rules hold, or with an empty `reason` none does; whether that is new."""
        before = self._held, self._held_told
        self._held, self._held_told = reason, told
        return before != (reason, told)

    @property
    def reason(self) -> str:
        """For its owner; empty while jobs are taken on."""
        return self._paused or self._held or self._disk.reason

    @property
    def told(self) -> str:
        """For customers and heartbeats."""
        return "draining" if self.draining else self._paused or self._held_told or self._disk.reason
