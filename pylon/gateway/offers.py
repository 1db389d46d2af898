"""What the live providers offer, put together once a look, so that no request walks through thousands of them."""

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pylon.money.price import FREE, Price

# The most models that `GET /v1/models` lists: an announcement may name a hundred, and anybody may announce.
MOST_MODELS = 1_000
# Where a model has more prices than this, a question does not look at each of them.
MOST_PRICES = 1_000
# Of a model's weights, the most that are named.
_LISTED = 4

type Json = dict[str, Any]


class Offers:
    """The offers in `rows`, which are those of the core's `providers` call. Takes some microseconds for each."""

    def __init__(self, rows: Sequence[Json]) -> None:
        self.nobody = not rows
        # The models of the providers that could take a job now, by name, in OpenAI's format.
        self.models: dict[str, Json] = {}
        # The largest context by what a job may ask for, and whether providers of the open form count.
        self._longest: dict[tuple[str | None, bool], float] = {}
        self._prices: dict[str | None, set[Price]] = {}
        for row in rows:
            contexts = _contexts(row)
            self._add_contexts(row, contexts)
            if row["state"] == "ready":
                self._add_price(row, contexts)
                self._add_models(row)
        most = heapq.nlargest(MOST_MODELS, self.models.values(), key=lambda model: model["pylon"]["providers"])
        # Those that most providers have, in the order of their names.
        self.listed = sorted(most, key=lambda model: model["id"])

    def longest(self, wanted: str | None, *, plain: bool) -> float | None:
        """The largest context, in tokens, of the providers that have this model: infinite if one does not say how
        large it is, None if nobody has the model. `plain`: whether those that read only the open form count."""
        return self._longest.get((wanted, plain))

    def prices(self, wanted: str | None) -> frozenset[Price] | None:
        """The prices of the providers that may be asked for this model now, each once; None for too many to look
        at."""
        prices = self._prices.get(wanted, set())
        return None if len(prices) > MOST_PRICES else frozenset(prices)

    def _add_contexts(self, row: Json, contexts: Mapping[str | None, int]) -> None:
        for wanted, context in contexts.items():
            room = context or math.inf
            for plain in (True,) if row["plain"] else (True, False):
                known = self._longest.get((wanted, plain), 0)
                self._longest[wanted, plain] = max(known, room)

    def _add_price(self, row: Json, names: Iterable[str | None]) -> None:
        # A provider without a price is asked only for jobs that it does for free.
        if row["price"] is None:
            return
        # Our own machines are free for us: their price is for others.
        price = FREE if row["own"] else Price.of_rates(row["price"])
        for wanted in names:
            self._prices.setdefault(wanted, set()).add(price)

    def _add_models(self, row: Json) -> None:
        for name, sha256, context in _models(row):
            about: Json = {"providers": 0, "slots": 0, "context": 0, "sha256": []}
            fresh = {"id": name, "object": "model", "created": 0, "owned_by": "pylon", "pylon": about}
            one = self.models.setdefault(name, fresh)["pylon"]
            one["providers"] += 1
            one["slots"] += row["slots"]
            one["context"] = max(one["context"], context)
            if sha256 and sha256 not in one["sha256"] and len(one["sha256"]) < _LISTED:
                one["sha256"].append(sha256)


def _contexts(row: Json) -> dict[str | None, int]:
    """The context, in tokens, of the model that this provider would use, by what a job may ask for: 0 if it does not
    say."""
    # A job that names no model gets the first.
    contexts: dict[str | None, int] = {None: next(iter(row["contexts"]), 0)}
    for name, sha256, context in _models(row):
        contexts.setdefault(name, context)
        if sha256:
            contexts.setdefault(f"sha256:{sha256}", context)
    return contexts


def _models(row: Json) -> Iterator[tuple[str, str, int]]:
    return zip(row["models"], row["weights"], row["contexts"], strict=True)
