"""A bounded mapping for what strangers can make without end, such as keys, ids and events."""

from collections import OrderedDict


class Latest[K, V]:
    """A value for each of the last `most` keys that were put; older keys are dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: K) -> V | None:
        """The value, or None if the key was never put or is dropped. Does not make the key more recent."""
        return self._values.get(key)

    def pop(self, key: K) -> V | None:
        """Removes a key and returns its value, or None if it is not there."""
        return self._values.pop(key, None)

    def put(self, key: K, value: V) -> None:
        """Sets the value and makes the key the most recent, also when it is there already."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
