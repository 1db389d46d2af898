"""How long to rest between two commits, so that more writes gather for the next one.

A commit costs about the same for one write as for twenty: a flush, a hand-over to a thread, and scattered pages of
every index. Under a steady stream of writes, committing each as it comes would mean committing all the time.
"""

import asyncio

# The longest rest in multiples of what the last commit took: under load commits then take a quarter of the time.
_TIMES = 3.0
# The longest rest in seconds for each write of the last commit. Rests grow while more than one write comes in this
# time, and shrink while fewer do: a machine that is not at its limits loses no time.
_EACH_S = 0.001
# The longest rest of all, in seconds: on a slow disk enough gathers while a commit runs.
_MOST_S = 0.03
# The fewest writes in a commit after which resting pays.
_CROWD = 4
# A rest looks this often whether it is of use: a timer that fires on time shows that the event loop is idle, so that
# whatever would write next is waiting for this commit. Timers are a millisecond late by themselves.
_LOOK_S, _ON_TIME_S = 0.004, 0.0015


def rest_s(took_s: float, writes: int) -> float:
    """The longest rest, in seconds, after a commit of `writes` writes that took `took_s` seconds."""
    return min(_TIMES * took_s, _EACH_S * writes, _MOST_S) if writes >= _CROWD else 0.0


async def rest(took_s: float, writes: int) -> None:
    """Waits for `rest_s`, or until the event loop has nothing else to do."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + rest_s(took_s, writes)
    while (now := loop.time()) < ends:
        due = min(now + _LOOK_S, ends)
        await asyncio.sleep(due - now)
        if loop.time() - due < _ON_TIME_S:
            return
