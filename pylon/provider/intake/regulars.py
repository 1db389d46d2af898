"""Whose jobs were taken on here: such a key is no stranger, and is told what is wrong with a request."""

from collections import OrderedDict
from collections.abc import Iterable

# A stranger can make keys at will: the longest unseen are forgotten.
MOST = 10_000


class Regulars:
    """The last `most` customers."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._keys: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, customer: str) -> bool:
        return customer in self._keys

    def add(self, customers: Iterable[str]) -> None:
        """These had a job taken on, the last of them latest."""
        for customer in customers:
            self._keys[customer] = None
            self._keys.move_to_end(customer)
            if len(self._keys) > self._most:
                self._keys.popitem(last=False)
