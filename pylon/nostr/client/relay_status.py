"""The state of a relay that we use, as `pylon status` shows it."""

from dataclasses import dataclass, field
from typing import Literal

from pylon.nostr.client.nip11 import RelayInformation

type State = Literal["connecting", "open", "closed"]

_CLOSED = "subscription closed: "


@dataclass(slots=True)
class RelayStatus:
    """What we know of one relay.

    `since`: when its `state` began, in Unix seconds. `notice`: the last NOTICE, or why a subscription was closed.
    `error`: why it is not connected or, while it is open, that it does not let our key in.
    """

    url: str
    state: State = "connecting"
    since: float = 0.0
    reconnects: int = 0
    error: str = ""
    notice: str = ""
    information: RelayInformation = field(default_factory=RelayInformation)
    # The id of the subscription that the notice is about, if any.
    noticed_of: str = field(default="", repr=False)

    def turn(self, state: State, now: float, error: str = "") -> None:
        """Change the state. `now` is in Unix seconds."""
        self.state, self.since, self.error = state, now, error

    def noticed(self, text: str) -> None:
        """The relay sent a NOTICE."""
        self.notice, self.noticed_of = text, ""

    def closed(self, subscription: str, reason: str) -> None:
        """The relay closed a subscription."""
        self.notice, self.noticed_of = _CLOSED + reason, subscription

    def answered(self, subscription: str) -> None:
        """The relay answered a subscription: a notice that it was closed no longer holds."""
        if subscription == self.noticed_of:
            self.notice = self.noticed_of = ""

    def let_in(self) -> None:
        """The relay accepted our key: earlier words about authentication no longer hold."""
        self.error = ""
        if self.notice.removeprefix(_CLOSED).startswith("auth-required:"):
            self.notice = ""
