"""How we see each provider: what it announces, with what our purse and our experience say of it."""

from collections.abc import Callable
from dataclasses import replace

from pylon.clock import Clock
from pylon.swarm.directory import Change, Directory, ProviderDown, ProviderUp
from pylon.swarm.listing import Listing, Need, reasons
from pylon.swarm.purse import Purse
from pylon.swarm.reach import Reach
from pylon.swarm.reputation import Reputation


class Outlook:
    """`tell` takes what the dispatcher must know of a provider. `own` are one's own machines, `checked` says whether
    answers are, so that experience counts."""

    def __init__(
        self,
        directory: Directory,
        own: frozenset[str],
        tell: Callable[[Change], None],
        clock: Clock,
        *,
        purse: Purse | None,
        reputation: Reputation,
        checked: bool,
        reach: Reach | None,
    ) -> None:
        self.own = own
        self._directory = directory
        self._tell = tell
        self._clock = clock
        self._purse = purse
        self._reputation = reputation
        self._checked = checked
        self._reach = reach
        if reach is not None:
            reach.reached = self.reconsider

    def changed(self, change: Change) -> None:
        """Something about a provider. What may go to it is for purse and reputation to say."""
        if self._reach is not None:
            if isinstance(change, ProviderDown):
                self._reach.gone(change.provider)
            elif self._reach.holds(change.listing):
                return
        if isinstance(change, ProviderUp):
            change = ProviderUp(self._as_we_see_it(change.listing))
        self._tell(change)

    def reconsider(self, provider: str) -> None:
        """Purse or reputation changed their mind about a provider, or it is known now where it is reached."""
        listing = self._directory.get(provider)
        if listing is not None:
            self.changed(ProviderUp(listing))

    def seen(self, need: Need) -> str:
        """Who is there, and why nobody takes what is needed."""
        why = "".join(f"; {count} {reason}" for reason, count in sorted(reasons(need, self._directory).items()))
        return f"{self._directory.known} providers heard of, {len(self._directory)} alive{why}"

    def _as_we_see_it(self, listing: Listing) -> Listing:
        provider, purse = listing.provider, self._purse
        widths = [None if purse is None else purse.width(listing)]
        trust = 1.0
        if self._checked:
            widths.append(self._reputation.width(provider, self._clock.wall()))
            trust = self._reputation.trust(provider)
        return replace(
            listing,
            width=min((width for width in widths if width is not None), default=None),
            trust=trust,
            funded=purse is not None and purse.funded(listing),
            own=provider in self.own,
        )
