"""How one provider stands with the dispatcher: what is in flight there, how fast it is, whether it rests."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pylon.swarm.dispatch.pace import Pace
from pylon.swarm.providers.listing import Listing, Need

if TYPE_CHECKING:
    from pylon.swarm.dispatch.seats import Seat

# Before anything is known of a provider it is taken to need this long for a job.
UNKNOWN_S = 2.0
# A deadline missed once may be the network's fault.
MISSES = 2
REFUSALS = 5
_REST_S = 30.0
_BUSY_S = 1.0
_MOST_S = 600.0
# Two heartbeats.
_BELIEVED_S = 60.0
# Nothing is known against somebody new, and nothing for them: they count as half as slow again.
_DOUBT = 0.5


@dataclass(slots=True, eq=False)
class Standing:
    """See the module. Seconds are monotonic."""

    provider: str
    listing: Listing | None = None
    in_flight: int = 0
    # So many may be in flight there now, and so many at most.
    limit: int = 1
    ceiling: int = 1
    # Slots that were taken by others when it last said how many are free.
    others: int = 0
    # Until when jobs of others go before ours, as it said of this attempt.
    others_until: float = -math.inf
    told_of: int = 0
    pace: Pace = field(default_factory=Pace)
    # 1 to 1.2, drawn by each customer for itself, so that a thousand of them do not rank providers alike.
    spread: float = 1.0
    # Of the relays in the listing, those that we use too.
    relays: tuple[str, ...] = ()
    misses: int = 0
    missed_at: float = -math.inf
    silences: int = 0
    silent_at: float = -math.inf
    # It answered since we are here.
    has_answered: bool = False
    # When the latest of the requests was sent for which it had a word.
    heard_of: float = -math.inf
    refusals: int = 0
    busy: int = 0
    rests_until: float = -math.inf
    # What for, in a few words for people.
    rests_for: str = ""
    # The last price that was asked for, and of which sizes.
    _quoted: int = 0
    _quoted_for: tuple[int, int] | None = None
    refused_models: set[str] = field(default_factory=set)
    # Where it stands in each lane that it is a member of.
    seats: list["Seat"] = field(default_factory=list, repr=False)

    def update(self, listing: Listing, overcommit: float) -> None:
        """What it now says of itself."""
        self.listing = listing
        self.limit = self.ceiling = max(1, math.ceil(listing.slots * overcommit))
        self.others = max(0, listing.slots - listing.slots_free - self.in_flight)
        self._quoted_for = None

    def told(self, attempt: int, wait_s: float, seconds: float, now: float) -> float:
        """It said how long the latest of our jobs waits there; how much of that is for jobs of others.

        `seconds` is what a job takes there. What it said is believed until that job is answered, and not for longer
        than heartbeats need to say otherwise.
        """
        slots = self.listing.slots if self.listing is not None else 1
        others_s = max(0.0, wait_s - seconds * ((self.in_flight - 1) // slots))
        self.others_until, self.told_of = now + min(others_s, _BELIEVED_S), attempt
        return others_s

    @property
    def live(self) -> bool:
        """Whether it is there."""
        return self.listing is not None

    def fits(self, need: Need) -> bool:
        """Whether it is alive and does what is needed."""
        if self.listing is None or (need.model is not None and need.model in self.refused_models):
            return False
        return not need.why_not(self.listing)

    def rests(self, now: float) -> bool:
        return now < self.rests_until

    def has_room(self, lost: float) -> bool:
        """Whether one more may go there, where this share of requests never arrives."""
        allowed = None if self.listing is None else self.listing.width
        # Who was silent is tried with one.
        most = 1 if self.silences else self.limit
        return self.in_flight * (1.0 - lost) < most and (allowed is None or self.in_flight < allowed)

    @property
    def is_own(self) -> bool:
        """Whether it is a machine of our own."""
        return self.listing is not None and self.listing.own

    @property
    def is_familiar(self) -> bool:
        """Whether it answered us before, in this process or an earlier one, and not with silence since."""
        if self.silences or self.listing is None:
            return False
        return self.has_answered or self.listing.familiar or self.listing.own

    @property
    def is_idle(self) -> bool:
        """Whether a job sent now would run at once."""
        return self.listing is not None and self.in_flight + self.others < self.listing.slots

    @property
    def rounds(self) -> int:
        """How many jobs long the wait for one more answer would be, itself included."""
        slots = self.listing.slots if self.listing is not None else 1
        return 1 + (self.in_flight + self.others) // slots

    def quote(self, prompt_tokens: int, max_tokens: int) -> int:
        """The most that a job of this size costs there, in msat."""
        listing = self.listing
        return 0 if listing is None or listing.own else self._quote(listing, prompt_tokens, max_tokens)

    def weight(self, need: Need, price_weight: float) -> float:
        """How many times longer than its time a provider counts as who is dear or little trusted."""
        listing = self.listing
        if listing is None:
            return math.inf
        dear = 1.0
        if need.bid and (quote := self._quote(listing, need.prompt_tokens, need.max_tokens)):
            dear += price_weight * min(1.0, quote / int(need.bid))
        return self.spread * dear * (1.0 + _DOUBT * (1.0 - listing.trust))

    def rank(self, prompt_tokens: int, max_tokens: int, weight: float, now: float) -> float:
        """Seconds until one more job of this size would be answered, times `weight`; an idle machine of our own
        comes first."""
        listing = self.listing
        if listing is None:
            return math.inf
        busy = self.in_flight + self.others
        if listing.own and busy < listing.slots:
            return 0.0
        # What it has queued is ours when something of ours is in flight there, and then counted in the rounds.
        queued = max(0.0 if self.in_flight else listing.queue_s, self.others_until - now)
        return (queued + self.seconds(prompt_tokens, max_tokens) * (1 + busy // listing.slots)) * weight

    def seconds(self, prompt_tokens: int, max_tokens: int) -> float:
        """What a job of this size takes there, as far as is known."""
        if self.pace.seconds or self.listing is None:
            return self.pace.seconds or UNKNOWN_S
        return _claimed(self.listing, prompt_tokens, max_tokens)

    def _quote(self, listing: Listing, prompt_tokens: int, max_tokens: int) -> int:
        size = (prompt_tokens, max_tokens)
        if size != self._quoted_for:
            self._quoted = int(listing.price.quote(prompt_tokens, max_tokens))
            self._quoted_for = size
        return self._quoted

    def answered(self, attempt: int, seconds: float) -> None:
        """It answered, after that long for one round."""
        if attempt == self.told_of:
            self.others_until = -math.inf
        self.pace.saw(seconds)
        self.has_answered = True
        self.misses = self.refusals = self.busy = 0
        # One more than when it last had enough: it says so again when that is too many.
        self.limit = min(self.limit + 1, self.ceiling)

    def missed(self, now: float, seconds: float, sent_at: float) -> None:
        """It let the deadline of a request pass that was sent then, or failed. After several in a row it is left
        alone, longer each time.

        Requests that were out together most often fail together, and count as one.
        """
        self.pace.at_least(seconds)
        if sent_at < self.missed_at:
            return
        self.misses, self.missed_at = self.misses + 1, now
        if self.misses >= MISSES:
            times = f"{self.misses} times in a row"
            self._rest(now, _REST_S * 2 ** min(self.misses - MISSES, 10), f"failed or did not answer, {times}")

    def silent(self, now: float, sent_at: float, enough: int) -> None:
        """No word came for a request sent then. After `enough` in a row it is left alone, longer each time.

        Requests that were out together may have been lost together, and count as one. Its pace is not touched: what
        was lost on the way took no time there.
        """
        if sent_at < self.silent_at:
            return
        self.silences, self.silent_at = self.silences + 1, now
        if self.silences >= enough:
            times = f"{self.silences} times in a row"
            self._rest(
                now, _REST_S * 2 ** min(self.silences - enough, 10), f"did not react to what it was sent, {times}"
            )

    def refused(self, now: float) -> None:
        """It said no to one job. One that says no to all of them is left alone too."""
        self.refusals += 1
        if self.refusals >= REFUSALS:
            times = f"{self.refusals} times in a row"
            self._rest(now, _REST_S * 2 ** min(self.refusals - REFUSALS, 10), f"refused what it was sent, {times}")

    def was_busy(self, now: float) -> None:
        """It has enough for now: no more than is in flight there, or a pause when nothing is."""
        self.limit = max(1, min(self.limit, self.in_flight))
        if not self.in_flight:
            self._rest(now, _BUSY_S * 2 ** min(self.busy, 5), "said that it is busy")
            self.busy += 1

    def _rest(self, now: float, seconds: float, why: str) -> None:
        until = now + min(seconds, _MOST_S)
        if until >= self.rests_until:
            self.rests_until, self.rests_for = until, why


def _claimed(listing: Listing, prompt_tokens: int, max_tokens: int) -> float:
    """Seconds that such a job takes by its provider's own word."""
    seconds = 0.0
    if listing.tokens_in_per_s:
        seconds += prompt_tokens / listing.tokens_in_per_s
    if listing.tokens_out_per_s:
        seconds += max_tokens / listing.tokens_out_per_s
    # Someone who claims to need no time at all is not believed before it was seen.
    return max(seconds, UNKNOWN_S / 4) if seconds else UNKNOWN_S
