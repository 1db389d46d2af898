"""What the owner decides about serving."""

from collections.abc import Container
from dataclasses import dataclass

from pylon.jobs.kinds import REQUEST_KINDS
from pylon.jobs.parameters import MAX_TOKENS
from pylon.money.price import FREE, Price


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One frozen value, made from `config.toml`. Times are seconds, sizes bytes."""

    name: str = ""
    about: str = ""
    # Names the announcement among those of this key (NIP-89).
    d: str = "pylon"
    kinds: frozenset[int] = REQUEST_KINDS
    price: Price = FREE
    network: str = "play"
    # Open requests are readable by every relay; a broadcast is run by everyone who takes it.
    serve_open: bool = True
    serve_broadcast: bool = False
    # Public keys: served without charge and without limits; never served. Who is trusted may change meanwhile.
    trusted: Container[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    only_trusted: bool = False
    max_queue: int = 2_000
    max_per_customer: int = 1_000
    # Jobs that wait for their customers' payments are counted apart: they cost nothing to send. The first is for
    # customers that have never paid, all together.
    max_unpaid: int = 1_000
    max_unpaid_per_customer: int = 100
    max_prompt_bytes: int = 1_000_000
    max_tokens: int = 4_096
    default_max_tokens: int = 512
    # How old a request without a deadline may be, and how far ahead of our clock its author's may run.
    max_age_s: int = 600
    max_ahead_s: int = 900
    # The longest that a job is kept, whatever later deadline its request names.
    max_kept_s: int = 3_600
    # Feedback goes out when no result did within this time: half of the customer's acknowledgement deadline.
    processing_after_s: float = 2.5

    def longest_answer(self, of_model: int) -> int:
        """In tokens; `of_model` is the longest that the model is made for, 0 where that is not known."""
        return min(self.max_tokens, of_model or self.max_tokens, MAX_TOKENS)
