"""The gateway's budget: cost is reserved before a question is sent, settled when it is known, and kept to a limit.

Amounts are msat, as plain `int`.
"""

from dataclasses import dataclass

# A provider gets no larger deposit than what is held for a question. While much of the budget is left, more is held
# than the question needs, for up to so many jobs and up to 1/200 of it: else each job would be a payment of its own.
_DEPOSIT_JOBS = 24
_SHARE = 200


@dataclass(frozen=True, slots=True)
class Wait:
    """Too little is left now, but questions in progress may give something back."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Too little is left, even with all that is held for questions in progress (`left`). Up to `open` may come back
    much later.
    """

    left: int
    open: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a question that has ended was charged, and the most that it may come to cost."""

    charged: int = 0
    most: int = 0

    @property
    def open(self) -> int:
        """What may still be charged for it."""
        return self.most - self.charged


class Budget:
    """`spent` is what was charged, `held` what is reserved for questions in progress, `open` what may still be
    charged for ended ones: providers that were told to stop may have worked already.
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
        """Reserves for a question of which each attempt costs at most `most`: enough for `tries` attempts, for one if
        no more is left, and for more than `tries` if that is a small part of what is left.

        Returns the reserved amount, or whether to wait or refuse. `open` is not waited for: that may take hours.
        """
        if not most:
            # A free question is sent even if `left` is negative, since charges may exceed what was reserved.
            return 0
        if most <= self.left:
            amount = min(max(most * tries, min(most * _DEPOSIT_JOBS, self.left // _SHARE)), self.left)
            self.held += amount
            return amount
        if most <= self.left + self.held and self.held:
            return Wait()
        return Refuse(self.left + self.held, self.open)

    def settle(self, held: int, cost: Cost) -> None:
        """Replaces a reservation by the cost, which counts in full even if it is larger."""
        self.held -= held
        self._book(cost, 1)

    def settle_open(self, before: Cost, now: Cost) -> None:
        """Corrects the cost of a question that was settled before."""
        self._book(before, -1)
        self._book(now, 1)

    def _book(self, cost: Cost, times: int) -> None:
        self.spent += times * cost.charged
        self.open += times * cost.open
