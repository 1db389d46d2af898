"""A queue in which customers take turns: whoever sends many requests delays the others by one, not by all of them."""

import queue
from collections import OrderedDict, deque

from pylon.inference.child.messages import Close, Generate


class TurnQueue(queue.Queue[Generate | Close]):
    """The requests of each customer keep their order. `Close` is next at once: nobody waits for what is left then."""

    def _init(self, maxsize: int) -> None:  # noqa: ARG002 - it has none
        # The customer whose turn is next comes first; None for `Close`.
        self._waiting: OrderedDict[str | None, deque[Generate | Close]] = OrderedDict()

    def _qsize(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _put(self, item: Generate | Close) -> None:
        customer = item.request.customer if isinstance(item, Generate) else None
        self._waiting.setdefault(customer, deque()).append(item)
        if customer is None:
            self._waiting.move_to_end(None, last=False)

    def _get(self) -> Generate | Close:
        customer, line = self._waiting.popitem(last=False)
        item = line.popleft()
        if line:
            self._waiting[customer] = line
        return item
