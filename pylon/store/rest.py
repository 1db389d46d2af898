"""How long to rest between two commits, so that more gathers for the next one.

A commit costs about the same for one write as for twenty: a flush, a trip to a thread, and the pages of every index,
which lie apart. Where writes follow on each other, whoever commits at once commits all the time.
"""

import asyncio

# In multiples of what the last commit took: under load committing takes a quarter of the time.
_TIMES = 3.0
# For each write of the last commit. Where more than one comes in so long, rests become longer, and where fewer come,
# shorter: a machine that is not at its limits loses no time.
_EACH_S = 0.001
# On a slow disk enough gathers while a commit runs.
_MOST_S = 0.03
# Where fewer gather while one commit runs, hardly more would during a rest.
_CROWD = 4
# So often a rest asks whether it is any use: a timer that is on time says that the event loop has nothing to do, so
# that whatever else is to come waits for this commit. Timers are a millisecond late by themselves.
_LOOK_S, _ON_TIME_S = 0.004, 0.0015


def rest_s(took_s: float, writes: int) -> float:
    """Seconds to wait after a commit of so many writes that took so many seconds."""
    return min(_TIMES * took_s, _EACH_S * writes, _MOST_S) if writes >= _CROWD else 0.0


async def rest(took_s: float, writes: int) -> None:
    """Waits so long, or until the event loop has nothing else to do."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + rest_s(took_s, writes)
    while (now := loop.time()) < ends:
        due = min(now + _LOOK_S, ends)
        await asyncio.sleep(due - now)
        if loop.time() - due < _ON_TIME_S:
            return
