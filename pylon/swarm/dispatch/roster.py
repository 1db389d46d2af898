"""All providers that could be asked, and the lanes in which they are ordered by expected completion.

A provider's place in each lane is updated whenever something about it changes, so a decision looks only at the first
few.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter

from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.lane import Lane
from pylon.swarm.dispatch.silence import Silence
from pylon.swarm.dispatch.standing import Standing
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.settings import DispatchSettings

# How many providers that are gone are remembered, so that leaving and coming back does not clear a bad record.
REMEMBERED = 10_000
LANES = 32
# So many providers are put into a new lane. Others join when they announce something, or when half of these are gone.
ENOUGH = 4_000
_is_familiar = attrgetter("is_familiar")
# Each customer multiplies a provider's time by a factor of its own, of 1 to 1 + SPREAD: see `Standing.spread`.
SPREAD = 0.2


class Roster:
    """See the module. `shared` picks those of a provider's relays that we use too; `emptied` is called with a lane,
    and the time, when its last member leaves."""

    def __init__(
        self,
        settings: DispatchSettings,
        rng: random.Random,
        silence: Silence,
        shared: Callable[[Sequence[str]], tuple[str, ...]],
        emptied: Callable[[Lane, float], None],
    ) -> None:
        self._settings = settings
        self._silence = silence
        self._rng = rng
        self._shared = shared
        self._emptied = emptied
        self._standings: dict[str, Standing] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._lanes: OrderedDict[Need, Lane] = OrderedDict()
        self.coming = 0
        """How many jobs are about to be added."""
        self.turns: deque[Lane] = deque()
        """The lanes in the order in which they may send next."""

    def standing_of(self, provider: str) -> Standing | None:
        """The standing of a provider; None for one never seen."""
        return self._standings.get(provider)

    def remember(self, provider: str) -> Standing:
        """The standing of a provider, which is made if it was never seen."""
        standing = self._standing(provider)
        if standing.listing is None:
            self._leave(provider)
        return standing

    def up(self, listing: Listing, now: float) -> None:
        """A provider announced something, or our opinion of it changed."""
        standing = self._standing(listing.provider)
        self._gone.pop(listing.provider, None)
        old = standing.listing
        standing.update(listing, self._settings.overcommit)
        if old == listing and not standing.refused_models:
            # As after most receipts: its own data are unchanged, so it stays in the lanes that it is in.
            for seat in standing.seats:
                seat.lane.weigh(seat)
            self.place(standing, now)
            lanes = [lane for lane in self._lanes.values() if standing.provider not in lane.members]
        else:
            standing.relays = self._shared(listing.relays)
            lanes = list(self._lanes.values())
        for lane in lanes:
            self.join(lane, standing, now)

    def down(self, provider: str, now: float) -> None:
        """A provider is gone."""
        standing = self._standings.get(provider)
        if standing is None:
            return
        # Jobs in flight there stay: one that leaves in good order finishes them, and otherwise they time out.
        standing.listing = None
        for lane in self._lanes.values():
            self.join(lane, standing, now)
        self._leave(provider)

    def join(self, lane: Lane, standing: Standing, now: float) -> None:
        """Puts a provider into a lane if it meets the need, and takes it out otherwise."""
        seat = lane.members.get(standing.provider)
        if standing.fits(lane.need):
            seat = seat or lane.seat(standing)
            lane.weigh(seat)
            lane.place(seat, now, self._silence.lost)
        elif seat is not None:
            lane.dismiss(seat)
            if lane.left_out and len(lane.members) < ENOUGH // 2:
                self._take_in(lane, now)
            if not lane.members:
                lane.empty_since = now
                self._emptied(lane, now)

    def place(self, standing: Standing, now: float) -> None:
        """Ranks a provider anew in all its lanes: something changed that says when it would be done."""
        for seat in standing.seats:
            seat.lane.place(seat, now, self._silence.lost)

    def lane(self, job: m.SlotJob, now: float) -> Lane:
        """The lane of a job's need, which is made if there is none."""
        need = job.need
        lane = self._lanes.get(need)
        if lane is not None:
            self._lanes.move_to_end(need)
            return lane
        if len(self._lanes) >= LANES:
            unused = next((old for old in self._lanes.values() if not old.figures.open), None)
            if unused is not None:
                for seat in list(unused.members.values()):
                    unused.dismiss(seat)
                del self._lanes[unused.need]
                self.turns.remove(unused)
        lane = self._lanes[need] = Lane(need, job.prompt_tokens, job.max_tokens, self._settings)
        lane.empty_since = now
        self.turns.append(lane)
        self._take_in(lane, now)
        return lane

    @property
    def waits(self) -> bool:
        """Whether any job waits to be sent, or is about to be added."""
        return bool(self.coming) or any(lane.waiting for lane in self.turns)

    def any_loads_for(self, need: Need) -> bool:
        """Whether some provider will meet the need once its model is loaded. Looks at all providers."""
        return any(standing.loads_for(need) for standing in self._standings.values())

    def last_waiting(self, need: Need) -> int:
        """How many jobs of this need wait, if no more wait than are in flight; otherwise 0."""
        lane = self._lanes.get(need)
        return 0 if lane is None else lane.last_waiting

    def _take_in(self, lane: Lane, now: float) -> None:
        """Puts providers into a lane until it has `ENOUGH`."""
        lane.left_out = False
        for standing in self._from_anywhere():
            if len(lane.members) >= ENOUGH:
                lane.left_out = True
                return
            if standing.provider not in lane.members:
                self.join(lane, standing, now)

    def _standing(self, provider: str) -> Standing:
        standing = self._standings.get(provider)
        if standing is None:
            standing = self._standings[provider] = Standing(provider)
            standing.spread = 1.0 + SPREAD * self._rng.random()
        return standing

    def _from_anywhere(self) -> Iterator[Standing]:
        known = list(self._standings.values())
        start = self._rng.randrange(len(known)) if known else 0
        anywhere = chain(islice(known, start, None), islice(known, start))
        # Where not all fit, those that answered before come first: new keys must not keep them out.
        return chain(filter(_is_familiar, known), anywhere) if len(known) > ENOUGH else anywhere

    def _leave(self, provider: str) -> None:
        self._gone[provider] = None
        if len(self._gone) > REMEMBERED:
            oldest, _ = self._gone.popitem(last=False)
            del self._standings[oldest]
