"""The swarm as the RLM's sub-LM: sends jobs to a core with its `map` call, and yields outcomes as they arrive."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from pylon.errors import UnreachableError
from pylon.money.price import FREE, Price
from pylon.node.calls.protocol import Event, Node, Result, result_of
from pylon.node.loading import LoadingNotes
from pylon.node.outcomes import key_of
from pylon.node.rlm.window import Announced, window_of
from pylon.rlm.budget import Bound
from pylon.rlm.charges import ExtraCharge, OpenCharge, Reserved
from pylon.rlm.prompts import showable
from pylon.rlm.sublm import Came, Job, SubAnswer, SubFailure, SubModels, SubOutcome
from pylon.swarm.compose import dearest_quote
from pylon.swarm.job import JobSpec
from pylon.unsettled import CameTo, told

# How long to wait for providers: a core that has just started hears of the first ones within this time.
WAIT_S = 2.0


class SwarmSubLM:
    """Asks the swarm through a core."""

    name = "swarm"

    def __init__(
        self, node: Node, tell: Callable[[str], None] = lambda _: None, *, wait_s: float | None = None
    ) -> None:
        """`tell` is told what is waited for before anything is asked. Providers that load are waited for `wait_s`
        seconds at most, and no longer than the node waits for an answer."""
        self._node = node
        self._wait_s = wait_s
        self._waiting = LoadingNotes(tell)
        self._bid = 0
        self._prices: frozenset[Price] = frozenset()
        self._models: set[str] = set()
        # What to do about the call that failed last, where its node said so.
        self.hint = ""

    async def describe(self, model: str | None) -> SubModels:
        """See `SubLM`. Where nobody is ready, providers that are loading their model are waited for."""
        seen = await result_of(self._node, "providers", {"wait_s": WAIT_S, "model": model})
        if not _ready(seen) and await self._any_loading():
            await self._lack_of(Job("x", model=model, max_tokens=1))
            seen = await result_of(self._node, "providers", {"wait_s": 0, "model": model})
        rows = _ready(seen)
        if not rows:
            there = "" if model is None or seen["providers"] else await self._there()
            what = "no provider is ready" if model is None else f"no provider of {model} is ready"
            raise UnreachableError(
                f"{what} ({seen['heard_of']} heard of{there and f'; available: {there}'})",
                hint="See `pylon providers`, or run `pylon start` to make this machine one.",
            )
        self._bid = seen["bid_msat"]
        # Providers without a price, and our own machines, are asked for free.
        self._prices = frozenset(
            FREE if row["own"] or row["price"] is None else Price.of_rates(row["price"]) for row in rows
        )
        named = [of for row in rows for of in zip(row["models"], row["weights"], strict=True)]
        wanted = [of for of in named if model in (None, of[0], f"sha256:{of[1]}")] or named
        names = tuple(sorted({name for name, _ in wanted}))
        weights = tuple(sorted({sha256 for _, sha256 in wanted if sha256}))
        ready = [Announced(_context(row, model), row["slots"], row["trust"]) for row in rows]
        window = window_of(ready)
        return SubModels(names, window, sum(one.slots for one in ready if one.holds(window)), weights)

    async def check(self, job: Job) -> None:
        """Raises `UnreachableError`, with what to do about it, where nobody who is there takes such a call."""
        if (lack := await self._lack_of(job)) is not None:
            raise UnreachableError(lack["message"], hint=lack["hint"])

    async def _lack_of(self, job: Job) -> dict[str, Any] | None:
        """Why nobody takes such a call and what to do about it, None if somebody does. The node waits for those who
        are loading."""
        params = {"jobs": [{**_row(job), "bid_msat": None}], "dry_run": True, "deadline_s": self._wait_s}
        lack = None
        async with aclosing(self._node.call("map", params)) as answers:
            async for answer in answers:
                if isinstance(answer, Result):
                    lack = answer.data["lack"]
                else:
                    self._waiting.hear(answer.data["loading"])
        return lack

    async def _any_loading(self) -> bool:
        # Their models are not known yet.
        seen = await result_of(self._node, "providers", {"wait_s": 0})
        return any(row["state"] == "loading" for row in seen["providers"])

    async def event_bytes(self) -> int:
        """The largest event, in bytes, that all relays of the core accept."""
        seen = await result_of(self._node, "providers", {"wait_s": 0})
        return int(seen["event_bytes"])

    def most_msat(self, job: Job) -> int:
        """See `SubLM`. Computed with the dearest price list of a ready provider that is not above the bid."""
        if not self._bid:
            return 0
        chat = tuple((message.role, message.content) for message in job.messages)
        spec = JobSpec(job.prompt, messages=chat or None, max_tokens=job.max_tokens)
        return dearest_quote(self._prices, spec, self._bid)

    async def ask(self, jobs: Sequence[Job], *, budget_msat: int | None = None) -> AsyncIterator[Came]:
        """See `SubLM`. If providers are available but none has the model, the job fails at once."""
        missing = await self._missing({job.model for job in jobs if job.model is not None})
        for place, job in enumerate(jobs):
            if job.model in missing:
                yield place, SubFailure("no_provider", missing[job.model])
        places = [place for place, job in enumerate(jobs) if job.model not in missing]
        if not places:
            return
        asked = [_row(jobs[place]) for place in places]
        params = {"jobs": asked, "stream": True, "budget_msat": budget_msat}
        if budget_msat is not None:
            # Checked before the ask is announced: what a core does not know of stays set aside for good, so an ask
            # that never reached one must not be announced.
            await result_of(self._node, "ping")
            name = secrets.token_hex(16)
            params["reservation"] = name
            yield Reserved(name, self)
        told = 0
        async with aclosing(self._node.call("map", params)) as answers:
            async for answer in answers:
                rows = answer.data.get("outcomes", ()) if isinstance(answer, Event) else ()
                told += sum(row["paid_msat"] for row in rows if row["error"] is None)
                # The sum of everything charged so far; what no outcome accounts for is an extra charge.
                charged = answer.data["paid_msat"]
                if charged > told:
                    yield ExtraCharge(charged - told)
                    told = charged
                for row in rows:
                    if row["error"] is not None:
                        self.hint = row["error"]["hint"]
                    yield places[row["index"]], _outcome(row)
                if isinstance(answer, Result) and budget_msat is not None:
                    yield OpenCharge(answer.data["most_msat"] - charged)

    async def came_to(self, names: Sequence[str]) -> Mapping[str, CameTo | None]:
        """See `SubLM`. None for a call that the core does not know, as after its restart."""
        return told(await result_of(self._node, "reservations", {"names": list(names)}), names)

    async def _missing(self, models: set[str]) -> dict[str | None, str]:
        """A message for each of these models that no provider has, if providers of other models are available."""
        missing: dict[str | None, str] = {}
        for model in sorted(models - self._models):
            # Providers that are loading the model or pausing count too: they may be ready soon.
            seen = await result_of(self._node, "providers", {"wait_s": 0, "model": model})
            if seen["providers"]:
                self._models.add(model)
            elif there := await self._there():
                missing[model] = f"no provider has the model {model[:100]!r}; available: {there}"
        return missing

    async def _there(self) -> str:
        """The models of all providers, in words that are safe to show a root; empty if there are none, or if some
        provider does not say which models it has."""
        seen = await result_of(self._node, "providers", {"wait_s": 0})
        if any(row["plain"] for row in seen["providers"]):
            return ""
        names = sorted({name for row in seen["providers"] for name in row["models"]})
        return showable(names) or ("another" if names else "")


def _ready(seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for row in seen["providers"] if row["state"] == "ready"]


def _context(row: dict[str, Any], model: str | None) -> int:
    """A provider's window for that model, in tokens; with None, for the first model that it names, which is the one
    that would answer. 0 if unknown."""
    told = zip(row["models"], row["contexts"], row["weights"], strict=True)
    return next((context for name, context, sha256 in told if model in (None, name, f"sha256:{sha256}")), 0)


def _row(job: Job) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": job.model,
        "max_tokens": job.max_tokens,
        "temperature": job.temperature,
        "timeout": job.timeout_s,
        "bid_msat": job.most_msat,
        "seed": job.seed,
    }
    if job.messages:
        row["messages"] = [{"role": message.role, "content": message.content} for message in job.messages]
    else:
        row["prompt"] = job.prompt
    return row


def _outcome(row: dict[str, Any]) -> SubOutcome:
    error = row["error"]
    if error is not None:
        code = f"budget_{Bound.SATS}" if error["reason"] == "budget" else error["code"] or error["reason"]
        return SubFailure(code, error["message"], row["attempts"])
    usage = row["usage"] or {}
    return SubAnswer(
        row["text"],
        key_of(row["provider"]),
        row["model"],
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", 0),
        row["paid_msat"],
        row["queue_ms"],
        row["run_ms"],
        row["latency_ms"],
        row["attempts"],
        tuple(row["verified"]),
        row["request_id"],
        row["result_id"],
        row["finish"],
        row["sha256"],
    )
