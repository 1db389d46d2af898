"""The last so many of what came, the oldest forgotten: strangers can make keys, ids and events at will."""

from collections import OrderedDict


class Latest[K, V]:
    """A value for each of the last `most` keys."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: K) -> V | None:
        """Its value, or None where it never came or is forgotten; its place stays."""
        return self._values.get(key)

    def pop(self, key: K) -> V | None:
        """Its value, which is forgotten now; None where it was not known."""
        return self._values.pop(key, None)

    def put(self, key: K, value: V) -> None:
        """It comes, or comes again: now it is the last."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
