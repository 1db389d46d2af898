"""The swarm as the RLM's sub-LM: jobs go to a core over its `map` call, outcomes come back as they arrive."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from pylon.errors import UnreachableError
from pylon.jobs.size import text_bytes
from pylon.money.msat import Msat
from pylon.money.price import FREE, Price
from pylon.money.usage import TEMPLATE_TOKENS
from pylon.node.control import Event, Node, result_of
from pylon.rlm.budget import Bound
from pylon.rlm.sublm import Beside, Came, Job, SubAnswer, SubFailure, SubModels, SubOutcome

# A core that has just started hears of its first providers within this time.
WAIT_S = 2.0


class SwarmSubLM:
    """See the module. `bid_msat` caps what one call may cost below the core's own bid."""

    name = "swarm"

    def __init__(self, node: Node, *, bid_msat: int | None = None) -> None:
        self._node = node
        self._own_bid = bid_msat
        self._bid = 0
        self._prices: list[Price] = []

    async def describe(self, model: str | None) -> SubModels:
        """See `SubLM`."""
        seen = await result_of(self._node, "providers", {"wait_s": WAIT_S, "model": model})
        rows = [row for row in seen["providers"] if row["state"] == "ready"]
        if not rows:
            what = "no provider is ready" if model is None else f"no provider of {model} is ready"
            raise UnreachableError(
                f"{what} ({seen['heard_of']} heard of)", hint="See `pylon providers`; `pylon start` makes one."
            )
        self._bid = seen["bid_msat"] if self._own_bid is None else min(seen["bid_msat"], self._own_bid)
        # Who names no price is asked for what it does for nothing.
        self._prices = [FREE if row["price_msat"] is None else Price(*map(Msat, row["price_msat"])) for row in rows]
        named = [pair for row in rows for pair in zip(row["models"], row["contexts"], strict=True)]
        wanted = [(name, context) for name, context in named if model in (None, name)] or named
        contexts = [context for _, context in wanted if context]
        names = tuple(sorted({name for name, _ in wanted}))
        return SubModels(names, min(contexts, default=0), sum(row["slots"] for row in rows))

    def most_msat(self, job: Job) -> int:
        """See `SubLM`. The dearest price list that there is, and never more than the bid."""
        if not self._bid:
            return 0
        chat = orjson.dumps(_row(job).get("messages"))
        size = len(chat) if job.messages else text_bytes(job.prompt)
        # Rounded up as the customer's own bound is, so that it finds providers within this.
        tokens = 1 << (size + TEMPLATE_TOKENS).bit_length()
        dearest = max((int(price.quote(tokens, job.max_tokens)) for price in self._prices), default=self._bid)
        return min(self._bid, dearest)

    async def ask(self, jobs: Sequence[Job], *, budget_msat: int | None = None) -> AsyncIterator[Came]:
        """See `SubLM`."""
        params = {"jobs": [_row(job) for job in jobs], "stream": True, "budget_msat": budget_msat}
        told = 0
        async with aclosing(self._node.call("map", params)) as answers:
            async for answer in answers:
                rows = answer.data.get("outcomes", ()) if isinstance(answer, Event) else ()
                told += sum(row["paid_msat"] for row in rows if row["error"] is None)
                # All that the run was charged up to here, whatever for.
                charged = answer.data["msat" if isinstance(answer, Event) else "paid_msat"]
                if charged > told:
                    yield Beside(charged - told)
                    told = charged
                for row in rows:
                    yield row["index"], _outcome(row)


def _row(job: Job) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": job.model,
        "max_tokens": job.max_tokens,
        "temperature": job.temperature,
        "timeout": job.timeout_s,
        "bid_msat": job.most_msat,
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
        row["provider"],
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
    )
