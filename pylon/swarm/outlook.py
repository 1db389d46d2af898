"""The customer's view of each provider: its listing together with what purse and reputation say of it."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from pylon.clock import Clock
from pylon.jobs.announcement import HOUSEHOLD
from pylon.money.price import Price
from pylon.swarm.providers.directory import Change, ProviderDown, ProviderUp
from pylon.swarm.providers.lack import NO_WALLET, UNPRICED, Lack, Quoted
from pylon.swarm.providers.listing import LOADING, TOO_DEAR, Listing, Need
from pylon.swarm.providers.reach import Reach
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.spending.purse import Purse

# What this customer adds to a listing, the arguments of `Listing.seen_as`: width, trust, whether it is our own
# machine, whether it answered us lately, why it is barred.
type _Ours = tuple[int | None, float, bool, bool, str]

# A width is capped at so many times the slots, more than is ever sent: what a purse allows beyond that changes with
# each receipt, and would only be noise.
_MOST_TIMES = 8


class Outlook:
    """See the module. Without checks the reputation is not consulted."""

    def __init__(self, deciders: Deciders, clock: Clock, *, purse: Purse | None, reach: Reach | None) -> None:
        self._deciders = deciders
        self._circle = deciders.circle
        self._directory = deciders.directory
        self._reputation = deciders.reputation
        self._clock = clock
        self._purse = purse
        self._reach = reach
        # What the dispatcher was last told of each live provider.
        self._told: dict[str, _Ours] = {}
        # Providers that asked for money that they were not offered, and what they had announced by then.
        self._want_money: dict[str, tuple[Price, bool]] = {}
        if reach is not None:
            reach.reached = self.reconsider

    def changed(self, change: Change) -> None:
        """A provider appeared, changed or left: tells the deciders, with what purse and reputation add."""
        if isinstance(change, ProviderDown):
            self._told.pop(change.provider, None)
            self._want_money.pop(change.provider, None)
            if self._reach is not None:
                self._reach.gone(change.provider)
            self._deciders.tell(change)
            return
        self._say(change.listing, self._ours(change.listing))

    def reconsider(self, provider: str) -> None:
        """Tells the deciders if purse or reputation see a provider differently, or its relays are known now."""
        listing = self._directory.get(provider)
        if listing is None:
            return
        ours = self._ours(listing)
        # After most receipts nothing has changed.
        if ours != self._told.get(provider):
            self._say(listing, ours)

    def wants_money(self, provider: str) -> None:
        """A provider asked to be paid for a free job: it is left alone while its announced price stays the same."""
        listing = self._directory.get(provider)
        if listing is not None:
            self._want_money[provider] = (listing.price, listing.priced)
            self.reconsider(provider)

    def why_unpaid(self, provider: str) -> str:
        """Why one that asks to be paid was offered nothing, in a few words for people."""
        listing = self._directory.get(provider)
        free = listing is None or listing.price.is_free or self._circle.is_own(provider)
        return UNPRICED if free or self._purse is not None else NO_WALLET

    def why_not(self, need: Need, listing: Listing) -> str:
        """Why this provider does not meet the need, in a few words; empty if it does."""
        # Its own listing first, which is cheaper: there may be ten thousand. Our own machines are free to us.
        by_itself = "" if self._circle.is_own(listing.provider) else need.why_not(listing)
        if by_itself == LOADING:
            # As the dispatcher was told: looking anew would take six times as long, and whoever waits looks often.
            *_, barred = self._told.get(listing.provider) or ("",)
            return barred or LOADING
        return by_itself or need.why_not(listing.seen_as(*self._ours(listing)))

    def lack(self, need: Need, refusals: Sequence[str], size: tuple[int, int]) -> Lack:
        """Who is there, and why no provider meets the need. `refusals` are the words of relays.

        `size` is (prompt tokens, answer tokens) to quote for: a need with a bid of 0 does not state them.
        """
        prompt_tokens, max_tokens = size
        found = [(why, listing) for listing in self._directory if (why := self.why_not(need, listing))]
        dear = (
            Quoted(
                int(one.price.quote(prompt_tokens, max_tokens)), prompt_tokens, max_tokens, one.longest(need.model)
            )
            for why, one in found
            if why == TOO_DEAR
        )
        cheapest = min(dear, key=lambda quoted: quoted.msat, default=None)
        reasons = dict(Counter(why for why, _ in found))
        models = {model.id for listing in self._directory for model in listing.models}
        seen, alive = self._directory.known, len(self._directory)
        return Lack(need, seen, alive, reasons, tuple(refusals), cheapest, tuple(sorted(models)))

    def _ours(self, listing: Listing) -> _Ours:
        provider, purse = listing.provider, self._purse
        width, trust, familiar, barred = None, 1.0, False, ""
        own = self._circle.is_own(provider)
        if purse is not None and not own and (width := purse.width(listing)) is not None:
            barred = purse.barred(listing) if not width else ""
            width = min(width, _MOST_TIMES * max(1, listing.slots))
        if self._deciders.checks is not None:
            now = self._clock.wall()
            allowed = self._reputation.width(provider, now)
            width = min((one for one in (width, allowed) if one is not None), default=None)
            trust = self._reputation.trust(provider)
            familiar = self._reputation.has_answered(provider, now)
            if allowed == 0:
                barred = "excluded for wrong answers (`pylon providers --why`)"
        if listing.network == HOUSEHOLD and not own:
            barred = "reserved for a household"
        if self._want_money.get(provider) == (listing.price, listing.priced):
            barred = self.why_unpaid(provider)
        return width, trust, own, familiar, barred

    def _say(self, listing: Listing, ours: _Ours) -> None:
        held = self._reach is not None and self._reach.holds(listing)
        # A provider that already gets jobs goes on getting them at its old relays, with its new listing: finding its
        # new relays may take longer than jobs wait.
        if held and listing.provider not in self._told:
            return
        self._told[listing.provider] = ours
        if self._purse is None:
            self._deciders.tell(ProviderUp(listing.seen_as(*ours)))
        else:
            self._deciders.tell(ProviderUp(listing.seen_as(*ours, partial(self._purse.funded, listing))))
