"""The circle of a customer: its own machines, the only providers it may ask, and those it never asks.

All parts of a client share one circle, which changes while they use it: members of a household come and go.
"""


class Circle:
    """`own` are one's own machines, which are asked first and trusted without checks. With `allow` None any provider
    may be asked that is not in `block`. Public keys, hex."""

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
        """Whether this provider is one of one's own machines."""
        return provider in self.own

    def keeps(self, provider: str) -> bool:
        """Whether this provider is named here, so that no crowd of strangers may push it out of the directory."""
        return provider in self.own or (self.allow is not None and provider in self.allow)

    def change(self, *, own: frozenset[str], allow: frozenset[str] | None) -> frozenset[str]:
        """Sets who is in it. Returns the providers that became one's own, or are not any more."""
        before, self.own, self.allow = self.own, own, allow
        return before ^ own
