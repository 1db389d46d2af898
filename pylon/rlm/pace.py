"""How the sub-calls of a turn went out: whether its root should be told that they went one by one."""

# Fewer are no loop, or cost no time that counts.
_MANY = 5


class Pace:
    """Of one loop. Pure: times are in seconds."""

    def __init__(self) -> None:
        self._out = 0
        self._alone = 0
        self._seconds = 0.0
        # When the only call that is out was made.
        self._since: float | None = None

    def began(self, calls: int, *, now: float) -> None:
        """A request of so many calls goes out."""
        self._since = now if calls == 1 and not self._out else None
        self._out += 1

    def ended(self, *, now: float) -> None:
        """One is back."""
        self._out -= 1
        if not self._out and self._since is not None:
            self._alone += 1
            self._seconds += now - self._since

    def said(self) -> str:
        """What there is to say of the calls since the last time, which are forgotten."""
        alone, seconds = self._alone, self._seconds
        self._alone, self._seconds = 0, 0.0
        if alone < _MANY:
            return ""
        return (
            f"{alone:,} sub-calls went out one after the other, in {seconds:.1f} s: where none needs another's"
            " answer, `llm_query_batched(prompts)` asks all at once"
        )
