"""What the gateway may spend in all: set aside before a question goes out, settled by what it cost, never passed.

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
    """It can not be paid for, now or when all that are out are over. `open` may come back some time later."""

    left: int
    open: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a question that is over was charged, and the most that it can come to."""

    charged: int = 0
    most: int = 0

    @property
    def open(self) -> int:
        """What it may be charged yet."""
        return self.most - self.charged


class Budget:
    """`spent` is what was charged, `held` what questions that are out can cost, `open` what those that are over may
    be charged yet: providers that were told to stop may have worked already.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0
        self.held = 0
        self.open = 0

    @property
    def left(self) -> int:
        """What is neither spent nor set aside."""
        return self.limit - self.spent - self.held - self.open

    def hold(self, most: int, *, tries: int) -> int | Wait | Refuse:
        """Sets aside what `tries` tries of a question can cost, each `most` at most; one at the least, and more where
        that is a small part of what is left.

        How much that was; or that it has to wait, or cannot be. Nobody waits for what is open: that may take hours.
        """
        if not most:
            # However much more was charged than was set aside.
            return 0
        if most <= self.left:
            amount = min(max(most * tries, min(most * _DEPOSIT_JOBS, self.left // _SHARE)), self.left)
            self.held += amount
            return amount
        if most <= self.left + self.held and self.held:
            return Wait()
        return Refuse(self.left + self.held, self.open)

    def settle(self, held: int, cost: Cost) -> None:
        """What was set aside has become this cost. More than was set aside counts as well."""
        self.held -= held
        self._book(cost, 1)

    def settle_open(self, before: Cost, now: Cost) -> None:
        """What was settled at one cost has come to another."""
        self._book(before, -1)
        self._book(now, 1)

    def _book(self, cost: Cost, times: int) -> None:
        self.spent += times * cost.charged
        self.open += times * cost.open
