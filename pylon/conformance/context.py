"""What all probes share: the provider under test, the relays, and how long to wait."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pylon.conformance import wire
from pylon.conformance.clauses import Clause, Verdict, skipped
from pylon.conformance.customer import Customer
from pylon.jobs.kinds import RLM_REQUEST
from pylon.nostr.event import EventDraft, Tag

DEADLINE_S = 300


@dataclass(slots=True)
class ProbeContext:
    """The provider under test. `answer_s` is how long a result may take, `silence_s` how long counts as silence.

    `kinds` are the request kinds that it announces. `latency_s` is the time that its first result took: a slow
    provider must be listened to for longer before its silence is believed.
    """

    provider: str
    relays: Sequence[str]
    answer_s: float
    silence_s: float
    kinds: Sequence[int]
    latency_s: float = 0.0
    customers: list[Customer] = field(default_factory=list)

    @property
    def kind(self) -> int:
        """The request kind that most probes use."""
        return RLM_REQUEST if RLM_REQUEST in self.kinds else self.kinds[0]

    @property
    def quiet_s(self) -> float:
        """Seconds to listen before silence is believed."""
        return max(self.silence_s, 2 * self.latency_s)

    @property
    def refusal_s(self) -> float:
        """Seconds that a refusal may take, which needs no model."""
        return max(2 * self.silence_s, self.latency_s)

    @asynccontextmanager
    async def customer(self) -> AsyncIterator[Customer]:
        """A new customer, with a key of its own."""
        async with Customer(self.relays, self.provider) as customer:
            self.customers.append(customer)
            yield customer

    def private(self, customer: Customer, tags: Sequence[Tag] = (), **options: Any) -> EventDraft:
        """A request in the private form, with further `tags`, and `options` of `wire.private`."""
        now = int(time.time())
        options = {"expires_at": now + DEADLINE_S, "created_at": now, **options}
        inner = options.pop("inner", (wire.INPUT, wire.ENOUGH, *tags))
        return wire.private(customer.keys, self.provider, options.pop("kind", self.kind), inner, **options)

    def public(self, *, provider: str = "", kind: int | None = None, source: Tag | None = None) -> EventDraft:
        """A request in the open form."""
        now = int(time.time())
        return wire.public(
            provider or self.provider,
            self.kind if kind is None else kind,
            source or ("i", wire.PROMPT, "text"),
            salt=secrets.token_hex(8),
            expires_at=now + DEADLINE_S,
            created_at=now,
        )


def declined(clause: Clause, customer: Customer) -> Verdict | None:
    """`skipped` if the provider asked for payment or has no room, so that its answers cannot be judged; else None."""
    if customer.billed():
        return skipped(clause, "the provider asks for payment first")
    code = customer.code()
    if code in ("busy", "paused", "customer_limit", "credit_exhausted", "bid_too_low"):
        return skipped(clause, f"the provider said {code}")
    return None
