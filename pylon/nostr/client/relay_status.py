"""What is known of a relay while we use it, as `pylon status` tells it."""

from dataclasses import dataclass, field
from typing import Literal

from pylon.nostr.client.nip11 import RelayInformation

type State = Literal["connecting", "open", "closed"]

_CLOSED = "subscription closed: "


@dataclass(slots=True)
class RelayStatus:
    """`since` is in Unix seconds. `notice`: the relay's last word that is no answer; `error`: why it is of no use."""

    url: str
    state: State = "connecting"
    since: float = 0.0
    reconnects: int = 0
    error: str = ""
    notice: str = ""
    information: RelayInformation = field(default_factory=RelayInformation)
    # The subscription that the notice is about, if it is about one.
    noticed_of: str = field(default="", repr=False)

    def turn(self, state: State, now: float, error: str = "") -> None:
        """The connection is in another state."""
        self.state, self.since, self.error = state, now, error

    def noticed(self, text: str) -> None:
        """The relay has something to say."""
        self.notice, self.noticed_of = text, ""

    def closed(self, subscription: str, reason: str) -> None:
        """The relay closed a subscription."""
        self.notice, self.noticed_of = _CLOSED + reason, subscription

    def answered(self, subscription: str) -> None:
        """The relay answered a subscription: one that it had closed is open after all."""
        if subscription == self.noticed_of:
            self.notice = self.noticed_of = ""

    def let_in(self) -> None:
        """The relay knows who we are: that it asked for it, or did not believe us, was before."""
        self.error = ""
        if self.notice.removeprefix(_CLOSED).startswith("auth-required:"):
            self.notice = ""
