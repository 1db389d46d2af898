"""Whom a customer is among: its own machines, who alone may be asked, and who never is.

There is one of these for all who look at it, and it changes while they do: a household's members come and go.
"""


class Circle:
    """`own` are one's own machines, which are asked first and trusted without looking. `allow` None lets anybody be
    asked who is not in `block`. Public keys, hex."""

    def __init__(
        self,
        own: frozenset[str] = frozenset(),
        allow: frozenset[str] | None = None,
        block: frozenset[str] = frozenset(),
    ) -> None:
        self.own = own
        self.allow = allow
        self.block = block

    def is_own(self, provider: str) -> bool:
        """Whether it is one of one's own machines."""
        return provider in self.own

    def keeps(self, provider: str) -> bool:
        """Whether it is somebody in particular: no crowd of strangers takes its place."""
        return provider in self.own or (self.allow is not None and provider in self.allow)

    def change(self, *, own: frozenset[str], allow: frozenset[str] | None) -> frozenset[str]:
        """From now on it is these; those who became one's own, or are no longer."""
        before, self.own, self.allow = self.own, own, allow
        return before ^ own
