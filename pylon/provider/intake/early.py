"""Cancellations that came before their requests: over another relay, or as stored events do, the newest first."""

from collections import OrderedDict
from collections.abc import Iterable

# A stranger can write as many as it likes: the oldest are forgotten.
MOST = 10_000


class Early:
    """Pure: the last `most` requests that were taken back and had not come, as pairs of customer and id."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._taken_back: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __contains__(self, request: tuple[str, str]) -> bool:
        return request in self._taken_back

    def add(self, requests: Iterable[tuple[str, str]]) -> None:
        """These were taken back."""
        for request in requests:
            self._taken_back[request] = None
            self._taken_back.move_to_end(request)
            if len(self._taken_back) > self._most:
                self._taken_back.popitem(last=False)
