"""Notices when the code of a turn makes its sub-calls one after the other, so that its root can be told. Pure."""

# Fewer calls are no loop, or cost little time.
_MANY = 5


class Pace:
    """The pace of one loop's sub-calls. Times are in seconds."""

    def __init__(self) -> None:
        self._out = 0
        self._alone = 0
        self._seconds = 0.0
        # When the call in flight was sent, if it was sent alone while no other was in flight.
        self._since: float | None = None

    def began(self, calls: int, *, now: float) -> None:
        """Notes that a request of so many calls is sent."""
        self._since = now if calls == 1 and not self._out else None
        self._out += 1

    def ended(self, *, now: float) -> None:
        """Notes that a request has returned."""
        self._out -= 1
        if not self._out and self._since is not None:
            self._alone += 1
            self._seconds += now - self._since

    def said(self) -> str:
        """A remark for the root on the calls since the last remark, which are forgotten; empty if there is nothing to
        say."""
        alone, seconds = self._alone, self._seconds
        self._alone, self._seconds = 0, 0.0
        if alone < _MANY:
            return ""
        return (
            f"{alone:,} sub-calls went out one after the other, in {seconds:.1f} s: where none needs another's"
            " answer, `llm_query_batched(prompts)` asks all at once"
        )
