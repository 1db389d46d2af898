"""Providers that load their model: who is waited for before anybody is asked, and the words for it.

A node that has just started is heard of well before its model is in memory.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import TYPE_CHECKING

from pylon.clock import Clock
from pylon.node.calls.control import Event
from pylon.swarm.job import JobSpec
from pylon.swarm.providers.listing import LOADING
from pylon.swarm.runs.question_checks import fault_in

if TYPE_CHECKING:
    # Commands that ask a running node have the words alone, and do not load what makes a node.
    from pylon.swarm.client import SwarmClient

# Between two looks at who is there.
_LOOK_S = 0.1


def waited_for(reasons: Iterable[str]) -> int:
    """How many providers are worth waiting for: those that are loading, and 0 once anybody takes the question.

    `reasons` holds for each provider why it does not take it, or an empty text.
    """
    loading = 0
    for why in reasons:
        if not why:
            return 0
        loading += why == LOADING
    return loading


def loading_text(providers: int) -> str:
    """What a person is told who waits for so many."""
    if providers == 1:
        return "1 provider is loading its model; waiting for it …"
    return f"{providers:,} providers are loading their model; waiting for one of them …"


def loading_for(client: "SwarmClient", specs: Iterable[JobSpec]) -> int:
    """How many providers some of these questions have to wait for; malformed ones wait for nobody."""
    asked = (spec for spec in specs if not fault_in(spec))
    return max((waited_for(client.why_not(spec, one) for one in client.directory) for spec in asked), default=0)


async def until_ready(
    client: "SwarmClient", specs: Sequence[JobSpec], clock: Clock, patience_s: float, loading_s: float
) -> AsyncGenerator[Event]:
    """Waits `patience_s` for the first provider; and where nobody takes a question while some load their model,
    `loading_s` for those.

    Events tell how many are `loading`, first of all when the wait begins.
    """
    began, told = clock.monotonic(), -1
    while True:
        loading = loading_for(client, specs)
        if len(client.directory) and not loading:
            return
        if clock.monotonic() - began >= (loading_s if loading else patience_s):
            return
        if loading != told:
            told = loading
            yield Event({"loading": loading})
        await asyncio.sleep(_LOOK_S)
