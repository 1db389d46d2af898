"""Providers that load their model: who is waited for before anybody is asked, and the words for it.

A node that has just started is heard of well before its model is in memory.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from itertools import batched
from typing import TYPE_CHECKING

from pylon.clock import Clock
from pylon.node.calls.params import AT_ONCE
from pylon.node.calls.protocol import Event
from pylon.swarm.job import JobSpec
from pylon.swarm.providers.listing import LOADING, Listing
from pylon.swarm.runs.question_checks import fault_in

if TYPE_CHECKING:
    # Commands that ask a running node have the words alone, and do not load what makes a node.
    from pylon.swarm.client import SwarmClient

# Seconds between two looks at who is there, at least.
_LOOK_S = 0.1
# So many times as long as a look took is rested after it: there may be ten thousand providers.
_RESTS = 9


def loading_text(providers: int) -> str:
    """What a person is told who waits for so many."""
    if providers == 1:
        return "1 provider is loading its model; waiting for it …"
    return f"{providers:,} providers are loading their model; waiting for one of them …"


class LoadingNotes:
    """Tells a person that providers are still loading their model, each time that their number grows."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = 0

    def hear(self, loading: int) -> None:
        """So many are waited for now."""
        if loading > self._told:
            self._told = loading
            self._tell(loading_text(loading))


class Loading:
    """How many providers some questions have to wait for; malformed ones wait for nobody."""

    def __init__(self, client: "SwarmClient", specs: Iterable[JobSpec]) -> None:
        self._directory = client.directory
        self._judges = [client.judge(spec) for spec in specs if not fault_in(spec)]
        self.rest_s = 0.0
        """Seconds to wait before the next look, which follow from how long the last one took."""

    async def look(self) -> int:
        """The most that any of the questions waits for now."""
        began = time.monotonic()
        most = max([await self._waited_for(judge) for judge in self._judges], default=0)
        self.rest_s = _RESTS * (time.monotonic() - began)
        return most

    async def _waited_for(self, judge: Callable[[Listing], str]) -> int:
        loading = 0
        # In short turns of the event loop.
        for some in batched(tuple(self._directory), AT_ONCE):
            reasons = [judge(listing) for listing in some]
            if "" in reasons:
                # Somebody takes it.
                return 0
            loading += reasons.count(LOADING)
            await asyncio.sleep(0)
        return loading


async def until_ready(
    client: "SwarmClient", specs: Sequence[JobSpec], clock: Clock, patience_s: float, loading_s: float
) -> AsyncGenerator[Event]:
    """Waits `patience_s` for the first provider; and where nobody takes a question while some load their model,
    `loading_s` for those.

    Events tell how many are `loading`, first of all when the wait begins.
    """
    began, told, waiting = clock.monotonic(), -1, Loading(client, specs)
    while True:
        loading = await waiting.look()
        if len(client.directory) and not loading:
            return
        left = began + (loading_s if loading else patience_s) - clock.monotonic()
        if left <= 0:
            return
        if loading != told:
            told = loading
            yield Event({"loading": loading})
        await asyncio.sleep(min(left, max(_LOOK_S, waiting.rest_s)))
