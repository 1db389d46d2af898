"""The settings of a provider."""

from collections.abc import Container
from dataclasses import dataclass

from pylon.jobs.kinds import REQUEST_KINDS
from pylon.jobs.parameters import MAX_TOKENS
from pylon.money.price import FREE, Price


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Made from `config.toml`. Times are in seconds, sizes in bytes, answers in tokens."""

    name: str = ""
    about: str = ""
    # The `d` tag, which names the announcement among those of this key (NIP-89).
    d: str = "pylon"
    kinds: frozenset[int] = REQUEST_KINDS
    price: Price = FREE
    network: str = "play"
    # Open requests are readable by every relay. A broadcast names no provider: all that serve broadcasts run it.
    serve_open: bool = True
    serve_broadcast: bool = False
    # Public keys that are served for free and without limits, which may change while the node runs; and those that
    # are never served.
    trusted: Container[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    only_trusted: bool = False
    # Of customers of one standing: their jobs that wait for the engine, and how many of them may have any there.
    max_queue: int = 2_000
    max_customers: int = 100
    max_per_customer: int = 1_000
    # Jobs that wait for a payment cost nothing to send, so they have limits of their own: one for all customers
    # together that have never paid, and one for each customer.
    max_unpaid: int = 1_000
    max_unpaid_per_customer: int = 100
    max_prompt_bytes: int = 1_000_000
    max_tokens: int = 4_096
    default_max_tokens: int = 512
    # How old a request without a deadline may be, and how far ahead of our clock a request may be dated.
    max_age_s: int = 600
    max_ahead_s: int = 900
    # The longest that a job is kept, even if its request names a later deadline.
    max_kept_s: int = 3_600
    # After this time without a result, a `processing` feedback is sent: half of the time that customers wait for one.
    processing_after_s: float = 2.5

    def longest_answer(self, of_model: int) -> int:
        """The longest answer, in tokens. `of_model` is the longest that the model is made for, 0 if not known."""
        return min(self.max_tokens, of_model or self.max_tokens, MAX_TOKENS)
