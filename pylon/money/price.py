"""What a job costs: a base and a rate for tokens in and out.

The same function gives the quote (the maximum, before work) and the charge (as used, after it), so a charge
within the quoted tokens can never be above the quote.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from pylon.errors import MoneyError
from pylon.money.msat import ZERO, Msat

# Far above any context window: a larger count is an error or an attack.
MAX_TOKENS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """A price list: `base_msat` for each job, and rates in msat for 1,000 prompt tokens and 1,000 completion tokens.

    Raises `MoneyError` when the largest job would cost more than the largest amount: strangers' prices are checked
    once, here, and never fail where they are applied.
    """

    base_msat: Msat = ZERO
    in_msat_per_1k: Msat = ZERO
    out_msat_per_1k: Msat = ZERO

    def __post_init__(self) -> None:
        self.quote(MAX_TOKENS, MAX_TOKENS)

    @classmethod
    def of_rates(cls, rates: Mapping[str, int]) -> Self:
        """The price of such `rates`."""
        return cls(*(Msat(rates[field.name]) for field in fields(cls)))

    def rates(self) -> dict[str, int]:
        """Its fields by name, for JSON."""
        return {field.name: int(getattr(self, field.name)) for field in fields(self)}

    def quote(self, prompt_tokens: int, max_tokens: int) -> Msat:
        """The most that a job may cost. Raises `MoneyError` for counts out of range."""
        return self.charge(prompt_tokens, max_tokens)

    def charge(self, prompt_tokens: int, completion_tokens: int) -> Msat:
        """What a job costs: the sum is rounded up once, to a whole msat. Raises `MoneyError`."""
        if not (
            type(prompt_tokens) is type(completion_tokens) is int
            and 0 <= prompt_tokens <= MAX_TOKENS
            and 0 <= completion_tokens <= MAX_TOKENS
        ):
            raise MoneyError(f"{prompt_tokens!r} and {completion_tokens!r} are not two numbers of tokens")
        thousandths = prompt_tokens * int(self.in_msat_per_1k) + completion_tokens * int(self.out_msat_per_1k)
        return Msat(int(self.base_msat) - (-thousandths // 1_000))

    @property
    def is_free(self) -> bool:
        """Whether no job can ever cost anything."""
        return not (self.base_msat or self.in_msat_per_1k or self.out_msat_per_1k)


FREE = Price()
