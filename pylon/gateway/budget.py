"""What the gateway may spend in all: set aside before a question goes out, settled when it is over, never passed.

Amounts are msat, as plain `int`.
"""

from dataclasses import dataclass

# No more is deposited with a provider than a question may cost in all. Where there is plenty, it gets more than it
# needs: else each would be a payment of its own.
_DEPOSIT_JOBS = 24
_SHARE = 200


@dataclass(frozen=True, slots=True)
class Wait:
    """What is left does not pay for it now, but questions that are out may give something back."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It can never be paid for."""

    left: int


class Budget:
    """`spent` is what all questions that are over can have cost, `held` what those that are out can."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0
        self.held = 0

    @property
    def left(self) -> int:
        """What is neither spent nor set aside."""
        return self.limit - self.spent - self.held

    def hold(self, most: int, *, tries: int) -> int | Wait | Refuse:
        """Sets aside what `tries` tries of a question can cost, each `most` at most; one at the least, and more where
        that is a small part of what is left.

        How much that was; or that it has to wait, or cannot be.
        """
        if most <= self.left:
            amount = min(max(most * tries, min(most * _DEPOSIT_JOBS, self.left // _SHARE)), self.left)
            self.held += amount
            return amount
        if most <= self.limit - self.spent and self.held:
            return Wait()
        return Refuse(self.limit - self.spent)

    def settle(self, held: int, cost: int) -> None:
        """What was set aside has become this cost. More than was set aside counts as well."""
        self.held -= held
        self.spent += cost
