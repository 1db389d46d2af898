"""What the node is doing now, as its core tells it: for the page, the metrics and the list of models.

Strangers wrote some of the texts (names, models). Each is cut to one line of bounded length here, and the page shows
it as text, never as HTML.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.gateway.metrics import Histogram, Sample, counter, gauge
from pylon.gateway.offers import Offers
from pylon.gateway.upstream import Upstream
from pylon.tasks import end
from pylon.text import clean_line

# How long an answer of the core is kept: many clients may ask at once, and providers change by the second.
FRESH_S = 1.0
MOST_PROVIDERS = 200
_LISTEN_S = 2.0
# The longest that the page and the metrics wait for the core; a call without an answer by then counts as failed.
LOOK_S = 3.0
_JOBS = 20
_LONGEST = 120

# The parts of the time that this provider took for a job.
_PHASES = {
    "queue": "Seconds that answered jobs waited for this node's model.",
    "compute": "Seconds that this node's model took for answered jobs.",
    "publish": "Seconds from an answer until a relay had the signed result.",
}

type Json = dict[str, Any]


class View:
    """See the module. Answers of the core are kept for a moment, and concurrent callers share them."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._kept: dict[str, tuple[float, Json]] = {}
        self._failed: dict[str, tuple[float, PylonError]] = {}
        # What the providers of the last look offer.
        self.offers = Offers(())
        self._looking = {"now": asyncio.Lock(), "providers": asyncio.Lock()}
        self._called: dict[str, asyncio.Task[Json | None]] = {}

    async def close(self) -> None:
        """Ends calls that still wait for the core."""
        await end(*self._called.values())

    async def providers(self, fresh_s: float = FRESH_S) -> Json:
        """The answer to the core's `providers` call, at most `fresh_s` seconds old. Raises `PylonError`."""
        # A core that has just started must first hear from providers.
        wait_s = 0.0 if self._kept.get("providers", (0, {}))[1] else _LISTEN_S
        return await self._fresh("providers", partial(self._look_for_providers, wait_s), fresh_s)

    async def now(self) -> Json:
        """All that the page shows of the core. What the core does not answer is None, and `jobs` is empty."""
        return await self._fresh("now", self._look)

    async def samples(self) -> list[Sample | Histogram]:
        """The node's state as metrics."""
        now = await self.now()
        samples: list[Sample | Histogram] = [
            gauge("pylon_up", "Whether the node's core answers.", now["status"] is not None)
        ]
        provider = (now["status"] or {}).get("provider")
        if provider is not None:
            jobs = [((("state", state),), float(count)) for state, count in sorted(provider["jobs"].items())]
            samples += [
                Sample("pylon_jobs", "gauge", "Jobs in this provider's journal, by state.", jobs),
                gauge("pylon_jobs_queued", "Jobs waiting for this node's model.", provider["queued"]),
                gauge("pylon_jobs_running", "Jobs that this node's model is working on.", provider["running"]),
                gauge("pylon_paused", "Whether the node is paused and takes no new jobs.", bool(provider["paused"])),
            ]
            samples += [
                Histogram.counted(
                    f"pylon_job_{phase}_seconds", _PHASES[phase], one["bounds_s"], one["counts"], one["sum_s"]
                )
                for phase, one in provider["latency"].items()
            ]
        if now["providers"] is not None:
            samples.append(gauge("pylon_providers_alive", "Live providers.", now["providers"]["alive"]))
        if (totals := now["totals"]) is not None:
            samples += [
                counter(
                    "pylon_earned_msat",
                    "Earned by serving since the beginning, according to the books.",
                    totals["earned_msat"],
                ),
                counter(
                    "pylon_spent_msat",
                    "Spent on jobs since the beginning, according to the books.",
                    totals["paid_msat"],
                ),
            ]
        return samples

    async def _look_for_providers(self, wait_s: float) -> Json:
        seen = await self._upstream.result("providers", {"wait_s": wait_s})
        # Beside the event loop: thousands of providers take a tenth of a second.
        self.offers = await asyncio.to_thread(Offers, seen["providers"])
        return seen

    async def _look(self) -> Json:
        status, totals, jobs, providers = await asyncio.gather(
            self._soon("status", partial(self._upstream.result, "status")),
            self._soon("totals", partial(self._upstream.result, "totals")),
            self._soon("jobs", partial(self._upstream.result, "jobs", {"limit": _JOBS})),
            self._soon("providers", self.providers),
        )
        return {
            "status": None if status is None else _bounded(status),
            "totals": totals,
            "jobs": [] if jobs is None else _bounded(jobs["jobs"]),
            "providers": None if providers is None else _shown(providers),
        }

    async def _soon(self, name: str, call: Callable[[], Awaitable[Json]]) -> Json | None:
        """The core's answer, or None if it takes longer than `LOOK_S` or fails.

        A call that takes longer goes on, and the next look waits for the same one. Otherwise calls would pile up at a
        core that hangs, and a connection that takes long to open would never be opened.
        """
        task = self._called.get(name)
        if task is None:
            task = self._called[name] = asyncio.create_task(_or_none(call), name=f"page: {name}")
        await asyncio.wait({task}, timeout=LOOK_S)
        if not task.done():
            return None
        del self._called[name]
        return task.result()

    async def _fresh(self, name: str, look: Callable[[], Awaitable[Json]], fresh_s: float = FRESH_S) -> Json:
        began = self._clock.monotonic()
        async with self._looking[name]:
            failed = self._failed.get(name)
            if failed is not None and failed[0] >= began:
                # Callers that waited for the lock share this failure: else each would wait for a hanging core in
                # turn.
                raise failed[1]
            if name in self._kept and self._clock.monotonic() - self._kept[name][0] < fresh_s:
                return self._kept[name][1]
            try:
                seen = await look()
            except PylonError as error:
                self._failed[name] = self._clock.monotonic(), error
                raise
            self._failed.pop(name, None)
            self._kept[name] = (self._clock.monotonic(), seen)
            return seen


async def _or_none(call: Callable[[], Awaitable[Json]]) -> Json | None:
    try:
        return await call()
    except PylonError:
        return None


def _shown(providers: Json) -> Json:
    rows = providers["providers"]
    first = heapq.nsmallest(
        MOST_PROVIDERS, rows, key=lambda row: (row["state"] != "ready", -row["trust"], row["provider"])
    )
    names = (
        "provider",
        "name",
        "models",
        "slots",
        "slots_free",
        "queue_s",
        "tokens_out_per_s",
        "price",
        "state",
        "trust",
    )
    few = [{name: row[name] for name in names} for row in first]
    return {"alive": len(rows), "heard_of": providers["heard_of"], "rows": _bounded(few)}


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        line = clean_line(value)
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    if isinstance(value, list):
        return [_bounded(each) for each in value[:MOST_PROVIDERS]]
    if isinstance(value, dict):
        return {name: _bounded(each) for name, each in value.items()}
    return value
