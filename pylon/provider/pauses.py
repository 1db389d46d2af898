"""Why a provider takes no new jobs: its owner paused it, an owner rule holds, it is draining, or its disk fails."""

from pylon.provider.journal import Journal
from pylon.provider.writable import Writable

# The journal's setting that holds the reason of a pause by hand.
PAUSED = "paused"


class Pauses:
    """The reasons, each independent of the others. Jobs that were taken on before are finished in any case."""

    def __init__(self, journal: Journal, disk: Writable) -> None:
        self.draining = False
        self._journal = journal
        self._disk = disk
        self._by_hand = ""
        # Of the owner rules that hold: what the owner reads, and what others may know.
        self._rules, self._public_rules = "", ""

    async def start(self) -> None:
        """Reads a pause by hand from the journal: it lasts over restarts."""
        self._by_hand = await self._journal.setting(PAUSED)

    async def pause(self, reason: str) -> None:
        """Pauses by hand. Raises `sqlite3.Error` when that cannot be written down."""
        await self._journal.remember(PAUSED, reason)
        self._by_hand = reason

    async def resume(self) -> None:
        """Ends a pause by hand, and a drain. Raises `sqlite3.Error` when that cannot be written down."""
        await self._journal.remember(PAUSED, "")
        self._by_hand = ""
        self.draining = False

    def hold(self, reason: str, public_reason: str) -> bool:
        """Sets which owner rules hold; empty texts mean none. Returns whether that is a change."""
        before = self._rules, self._public_rules
        self._rules, self._public_rules = reason, public_reason
        return before != (reason, public_reason)

    @property
    def reason(self) -> str:
        """The reason that the owner is shown; empty while jobs are taken on, or the provider only drains."""
        return self._by_hand or self._rules or self._disk.reason

    @property
    def public_reason(self) -> str:
        """The reason that refusals and heartbeats give; empty while jobs are taken on."""
        return "draining" if self.draining else self._by_hand or self._public_rules or self._disk.reason
