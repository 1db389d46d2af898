"""Sends questions to the node's core: limits how many are in progress, reserves their cost, and counts outcomes."""

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.gateway.budget import Budget, Cost, Refuse, Wait
from pylon.gateway.chat import Chat
from pylon.gateway.fit import check_size, misfit
from pylon.gateway.problems import BUSY_S, Problem, problem_of_error, problem_of_row
from pylon.gateway.tally import Tally
from pylon.gateway.unsettled import Unsettled
from pylon.gateway.upstream import Begun, Ended, Said, Upstream
from pylon.gateway.view import FRESH_S, View
from pylon.swarm.compose import dearest_quote
from pylon.swarm.job import JobSpec

# Providers seen so many seconds ago are recent enough for their prices, which change seldom: a provider that charges
# more than was reserved is not asked anyway.
PRICES_S = 5.0
# A first attempt may fail, and its provider may still charge for it.
_TRIES = 2
# In seconds: the shortest timeout that a request can have. A shorter wait for the budget is not deducted from it.
_NO_WAIT_S = 0.1


class Asks:
    """At most `most` questions are in progress at once; `budget` bounds what all of them cost. With `plain` the core
    also asks providers that read only the open form. A question that names no timeout may take `timeout_s` seconds.
    """

    def __init__(
        self,
        upstream: Upstream,
        view: View,
        clock: Clock,
        *,
        budget: Budget,
        most: int,
        plain: bool,
        timeout_s: float,
    ) -> None:
        self.budget = budget
        self.tally = Tally()
        self._upstream = upstream
        self._view = view
        self._clock = clock
        self._most = most
        self._plain = plain
        self._timeout_s = timeout_s
        self._line = asyncio.Lock()
        self._returned = asyncio.Event()
        self._unsettled = Unsettled(upstream, budget, self._returned.set)

    async def close(self) -> None:
        """Stops asking the core what ended questions cost."""
        await self._unsettled.close()

    async def whole(self, chat: Chat) -> dict[str, Any]:
        """The row of the answer, as the core's `ask` call returns it. Raises `Problem`."""
        async with aclosing(self.run(chat)) as heard:
            async for one in heard:
                if isinstance(one, Ended):
                    return one.row
        raise Problem(500, "internal_error", "the question ended without an outcome")

    async def run(self, chat: Chat) -> AsyncGenerator[Said | Ended]:
        """The answer as it grows, and its row at the end. Raises `Problem`. Closing the iterator cancels the
        question.
        """
        tally, began, outcome = self.tally, self._clock.monotonic(), "cancelled"
        if tally.in_flight >= self._most:
            tally.outcomes["too_many_requests"] += 1
            raise Problem(
                429,
                "too_many_requests",
                f"{self._most} requests are already in progress, the most allowed (`gateway.max_requests`)",
                retry_s=BUSY_S,
                again=True,
            )
        tally.in_flight += 1
        try:
            async with aclosing(self._asked(chat)) as heard:
                async for one in heard:
                    if isinstance(one, Ended):
                        outcome = "answered"
                        self._count(one.row, self._clock.monotonic() - began)
                    yield one
        except Problem as problem:
            outcome = problem.code
            raise
        finally:
            tally.in_flight -= 1
            tally.outcomes[outcome] += 1

    async def _asked(self, chat: Chat) -> AsyncGenerator[Said | Ended]:
        held, name, began = 0, secrets.token_hex(16), self._clock.monotonic()
        # None while the question may cost anything up to what is held for it.
        cost: Cost | None = Cost()
        try:
            check_size(chat.job)
            await self._check_fit(chat.job)
            most = await self._most_msat(chat.job)
            held, job = await self._hold(most, chat.job)
            # The budget is passed even if all providers are free, so that one that asks for money a moment later is
            # not paid. The bid stays as it is: it bounds an invoice too, which is in whole sats.
            ask = self._upstream.ask(job, reservation=name, budget_msat=held, stream=chat.stream)
            async with aclosing(ask) as heard:
                async for one in heard:
                    if isinstance(one, Begun):
                        cost = None if held else Cost()
                    elif isinstance(one, Said):
                        yield one
                    else:
                        cost = Cost(one.row["charged_msat"], one.row["most_msat"])
                        if one.row["error"] is not None:
                            raise problem_of_row(one.row, chat.job)
                        yield one
        except PylonError as error:
            raise problem_of_error(error, self._clock.monotonic() - began) from error
        finally:
            if cost is None:
                self._unsettled.left(name, held)
            else:
                self.budget.settle(held, cost)
                if cost.open:
                    self._unsettled.ended(name, cost)
            self._returned.set()

    async def _check_fit(self, job: dict[str, Any]) -> None:
        await self._view.providers(PRICES_S)
        if misfit(job, self._view.offers, plain=self._plain) is None:
            return
        # A provider may have come since the last look.
        seen = await self._view.providers(FRESH_S)
        problem = misfit(job, self._view.offers, plain=self._plain)
        if problem is not None and seen["caught_up"]:
            raise problem

    async def _most_msat(self, job: dict[str, Any]) -> int:
        """What this job can cost, in msat: the highest price of the providers that may be asked, at most the bid."""
        seen = await self._view.providers(PRICES_S)
        bid = int(min(seen["bid_msat"], job.get("bid_msat", math.inf)))
        if not bid:
            return 0
        prices = self._view.offers.prices(job.get("model"))
        if prices is None:
            return bid
        chat = tuple((message["role"], message["content"]) for message in job.get("messages", ()))
        spec = JobSpec(
            job.get("prompt", ""), job.get("system"), messages=chat or None, max_tokens=job.get("max_tokens")
        )
        return dearest_quote(prices, spec, bid)

    async def _hold(self, most: int, job: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Reserves the cost of a job, and waits for other questions to give money back if it must.

        Returns the reserved msat, and the job with the time that is left. Raises `Problem` (402).
        """
        if not most:
            return 0, job
        tries = max(_TRIES, job.get("votes", 1) + 1)
        longest_s, began = job.get("timeout", self._timeout_s), self._clock.monotonic()
        try:
            async with asyncio.timeout(longest_s), self._line:
                while isinstance(held := self.budget.hold(most, tries=tries), Wait):
                    self._returned.clear()
                    await self._returned.wait()
        except TimeoutError:
            raise Problem(
                402,
                "budget",
                f"this request may cost {most:,} msat, and other requests held the rest of the "
                f"gateway's budget for all of the {longest_s:g} seconds it had. Allow more time "
                "(`pylon.timeout_s`), ask for fewer `max_tokens`, or restart the gateway with "
                "more `--sats`.",
            ) from None
        if isinstance(held, Refuse):
            later = f"; up to {held.open:,} may come back, but that takes some hours to settle" if held.open else ""
            raise Problem(
                402,
                "budget",
                f"this request may cost {most:,} msat, and only {max(0, held.left):,} of the "
                f"gateway's {self.budget.limit:,} msat are left{later}. Restart the gateway with "
                "more `--sats`, or ask for fewer `max_tokens`.",
            )
        waited_s = self._clock.monotonic() - began
        if waited_s < _NO_WAIT_S:
            return held, job
        return held, {**job, "timeout": max(_NO_WAIT_S, longest_s - waited_s)}

    def _count(self, row: dict[str, Any], seconds: float) -> None:
        self.tally.seconds.observe(seconds)
        if row["usage"] is not None:
            self.tally.prompt_tokens += row["usage"]["prompt_tokens"]
            self.tally.completion_tokens += row["usage"]["completion_tokens"]
