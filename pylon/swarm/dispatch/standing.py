"""What the dispatcher knows of one provider: what is in flight there, how fast it is, whether it is left alone."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pylon.swarm.dispatch.pace import Pace
from pylon.swarm.providers.listing import LOADING, Listing, Need

if TYPE_CHECKING:
    from pylon.swarm.dispatch.seats import Seat

# Seconds that a job is taken to need at a provider of which nothing is known.
UNKNOWN_S = 2.0
# From so many missed deadlines in a row on it rests: one may be the network's fault.
MISSES = 2
# From so many refusals in a row on it rests.
REFUSALS = 5
_REST_S = 30.0
_BUSY_S = 1.0
_MOST_S = 600.0
# For how long a provider's word on its queue is believed: two heartbeats.
_BELIEVED_S = 60.0
# How much slower a provider without any trust counts: half as slow again.
_DOUBT = 0.5


@dataclass(slots=True, eq=False)
class Standing:
    """See the module. Times are monotonic seconds. While a provider rests, nothing is sent there."""

    provider: str
    listing: Listing | None = None
    in_flight: int = 0
    # How many jobs may be in flight there now, and how many at most.
    limit: int = 1
    ceiling: int = 1
    # How many of its slots other customers used when it last announced its free slots.
    others: int = 0
    # Until when jobs of other customers go before ours, and the attempt of which it said so.
    others_until: float = -math.inf
    told_of: int = 0
    pace: Pace = field(default_factory=Pace)
    # 1 to 1.2, drawn by each customer for itself, so that a thousand of them do not rank providers alike.
    spread: float = 1.0
    # Those relays of the listing that we use too.
    relays: tuple[str, ...] = ()
    # Deadlines missed in a row, and when it last missed one; below the same of silences.
    misses: int = 0
    missed_at: float = -math.inf
    silences: int = 0
    silent_at: float = -math.inf
    # It answered us in this process.
    has_answered: bool = False
    # Of the requests to which it reacted, the time at which the latest was sent.
    heard_of: float = -math.inf
    refusals: int = 0
    busy: int = 0
    rests_until: float = -math.inf
    # Why it rests, in a few words for people.
    rests_for: str = ""
    # The last quote worked out, and for which size.
    _quoted: int = 0
    _quoted_for: tuple[int, int] | None = None
    refused_models: set[str] = field(default_factory=set)
    # Its seat in each lane that it is a member of.
    seats: list["Seat"] = field(default_factory=list, repr=False)

    def update(self, listing: Listing, overcommit: float) -> None:
        """Takes in what the provider now announces."""
        self.listing = listing
        self.limit = self.ceiling = max(1, math.ceil(listing.slots * overcommit))
        self.others = max(0, listing.slots - listing.slots_free - self.in_flight)
        self._quoted_for = None

    def told(self, attempt: int, wait_s: float, seconds: float, now: float) -> float:
        """It said how long our latest job waits there; returns how much of that is due to jobs of other customers.

        `seconds` is what a job takes there. Its word is believed until that job is answered, and no longer than two
        heartbeats.
        """
        slots = self.listing.slots if self.listing is not None else 1
        others_s = max(0.0, wait_s - seconds * ((self.in_flight - 1) // slots))
        self.others_until, self.told_of = now + min(others_s, _BELIEVED_S), attempt
        return others_s

    @property
    def live(self) -> bool:
        """Whether it is alive."""
        return self.listing is not None

    def fits(self, need: Need) -> bool:
        """Whether it is alive and meets the need."""
        if self.listing is None or (need.model is not None and need.model in self.refused_models):
            return False
        return not need.why_not(self.listing)

    def loads_for(self, need: Need) -> bool:
        """Whether it will meet the need once its model is loaded."""
        listing = self.listing
        return listing is not None and listing.loading and need.why_not(listing) == LOADING

    def rests(self, now: float) -> bool:
        """Whether it is left alone now."""
        return now < self.rests_until

    def has_room(self, lost: float) -> bool:
        """Whether one more job may go there. `lost` is the share of requests that relays lose."""
        allowed = None if self.listing is None else self.listing.width
        # One that met our last request with silence is tried with one job.
        most = 1 if self.silences else self.limit
        return self.in_flight * (1.0 - lost) < most and (allowed is None or self.in_flight < allowed)

    @property
    def is_own(self) -> bool:
        """Whether it is a machine of our own."""
        return self.listing is not None and self.listing.own

    @property
    def is_familiar(self) -> bool:
        """Whether it answered us before, in this process or an earlier one, and has not been silent since."""
        if self.silences or self.listing is None:
            return False
        return self.has_answered or self.listing.familiar or self.listing.own

    @property
    def is_idle(self) -> bool:
        """Whether a job sent now would run at once."""
        return self.listing is not None and self.in_flight + self.others < self.listing.slots

    @property
    def rounds(self) -> int:
        """After how many rounds of jobs one more job would be answered, its own included."""
        slots = self.listing.slots if self.listing is not None else 1
        return 1 + (self.in_flight + self.others) // slots

    def quote(self, prompt_tokens: int, max_tokens: int) -> int:
        """The most that a job of this size costs there, in msat."""
        listing = self.listing
        return 0 if listing is None or listing.own else self._quote(listing, prompt_tokens, max_tokens)

    def weight(self, need: Need, price_weight: float) -> float:
        """The factor by which its time counts as longer because it is dear or little trusted; 1 or more."""
        listing = self.listing
        if listing is None:
            return math.inf
        dear = 1.0
        if need.bid and (quote := self._quote(listing, need.prompt_tokens, need.max_tokens)):
            dear += price_weight * min(1.0, quote / int(need.bid))
        return self.spread * dear * (1.0 + _DOUBT * (1.0 - listing.trust))

    def rank(self, prompt_tokens: int, max_tokens: int, weight: float, now: float) -> float:
        """Seconds until one more job of this size would be answered, times `weight`; 0 for our own idle machine."""
        listing = self.listing
        if listing is None:
            return math.inf
        busy = self.in_flight + self.others
        if listing.own and busy < listing.slots:
            return 0.0
        # When jobs of ours are in flight there, its announced queue is ours, and counted in the rounds already.
        queued = max(0.0 if self.in_flight else listing.queue_s, self.others_until - now)
        return (queued + self.seconds(prompt_tokens, max_tokens) * (1 + busy // listing.slots)) * weight

    def seconds(self, prompt_tokens: int, max_tokens: int) -> float:
        """Seconds that a job of this size takes there: as seen, or else by its provider's claim."""
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
        """It answered an attempt, after so many seconds a round."""
        if attempt == self.told_of:
            self.others_until = -math.inf
        self.pace.saw(seconds)
        self.has_answered = True
        self.misses = self.refusals = self.busy = 0
        # After it said that it was busy, the limit grows by one with each answer, until it says so again.
        self.limit = min(self.limit + 1, self.ceiling)

    def missed(self, now: float, seconds: float, sent_at: float) -> None:
        """It failed, or let the deadline of a request pass that was sent at `sent_at`.

        After several misses in a row it rests, longer each time. Requests that were out together often fail together,
        so they count as one miss.
        """
        self.pace.at_least(seconds)
        if sent_at < self.missed_at:
            return
        self.misses, self.missed_at = self.misses + 1, now
        self._rest_after(self.misses, MISSES, now, "failed or did not answer")

    def silent(self, now: float, sent_at: float, enough: int) -> None:
        """It met a request with silence that was sent at `sent_at`.

        After `enough` silences in a row it rests, longer each time. Requests that were out together may have been
        lost together, so they count as one. Its pace is not touched: a request that was lost took no time there.
        """
        if sent_at < self.silent_at:
            return
        self.silences, self.silent_at = self.silences + 1, now
        self._rest_after(self.silences, enough, now, "did not react to what it was sent")

    def refused(self, now: float) -> None:
        """It refused a job. After several refusals in a row it rests."""
        self.refusals += 1
        self._rest_after(self.refusals, REFUSALS, now, "refused what it was sent")

    def was_busy(self, now: float) -> None:
        """It said that it is busy: its limit becomes what is in flight there; if that is nothing, it rests
        shortly."""
        self.limit = max(1, min(self.limit, self.in_flight))
        if not self.in_flight:
            self._rest(now, _BUSY_S * 2 ** min(self.busy, 5), "said that it is busy")
            self.busy += 1

    def _rest_after(self, times: int, enough: int, now: float, what: str) -> None:
        """It rests once it did `what` `enough` times in a row: half a minute, and twice as long each further time."""
        if times >= enough:
            self._rest(now, _REST_S * 2 ** min(times - enough, 10), f"{what}, {times} times in a row")

    def _rest(self, now: float, seconds: float, why: str) -> None:
        until = now + min(seconds, _MOST_S)
        if until >= self.rests_until:
            self.rests_until, self.rests_for = until, why


def _claimed(listing: Listing, prompt_tokens: int, max_tokens: int) -> float:
    """Seconds that a job of this size takes by the speeds that its provider claims."""
    seconds = 0.0
    if listing.tokens_in_per_s:
        seconds += prompt_tokens / listing.tokens_in_per_s
    if listing.tokens_out_per_s:
        seconds += max_tokens / listing.tokens_out_per_s
    # A claim to need no time at all is not believed until it was seen.
    return max(seconds, UNKNOWN_S / 4) if seconds else UNKNOWN_S
