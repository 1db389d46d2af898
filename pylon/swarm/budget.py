"""What runs may cost: reserved before a request goes out, settled by its receipt, never passed.

An attempt that is given up keeps its whole reservation: whoever was told to stop may have worked already, and its
receipt may yet come. So the sum errs towards what could have been charged. Amounts are msat, as plain `int`.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class _Account:
    limit: int
    reserved: int = 0
    spent: int = 0


class Budgets:
    """By number of the run. Runs without a limit can pay anything."""

    def __init__(self) -> None:
        self.accounts: dict[int, _Account] = {}
        """Those of runs with a limit; most have none, and nothing needs to be counted then."""

    def fund(self, run: int, msat: int | None) -> None:
        """Sets the most that a run may cost, over what was set before; None takes the limit away."""
        account = self.accounts.get(run)
        if msat is None:
            self.accounts.pop(run, None)
        elif account is None:
            self.accounts[run] = _Account(msat)
        else:
            account.limit = msat

    def left(self, run: int) -> int | None:
        """What may still be reserved; None without a limit."""
        account = self.accounts.get(run)
        return None if account is None else account.limit - account.spent - account.reserved

    def reserved(self, run: int) -> int:
        """What attempts that are out may cost."""
        account = self.accounts.get(run)
        return 0 if account is None else account.reserved

    def reserve(self, run: int, cost: int) -> None:
        """Sets aside what an attempt may cost; `left` was asked before."""
        if (account := self.accounts.get(run)) is not None:
            account.reserved += cost

    def settle(self, run: int, cost: int, charged: int) -> None:
        """What was reserved for an attempt has become this charge; more than was reserved is counted too."""
        if (account := self.accounts.get(run)) is not None:
            account.reserved -= cost
            account.spent += charged
