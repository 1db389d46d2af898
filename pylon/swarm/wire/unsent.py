"""Why a request was not sent, or is not known to be, in words for people, with a hint that says what to do next.

Source: NIP-01 "From relay to client: sending events and notices" (the words that begin a refusal), NIP-42
(`auth-required`).
"""

import re
from collections.abc import Sequence

from pylon.errors import RelayError
from pylon.nostr.client.connection import RelayStatus
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import FailureDetail

_NOT_LET_IN = (
    "The relay does not admit this key. If it is a household's relay, this machine may have been removed from the "
    "household."
)
_ANOTHER = "Set another relay in `relays` of config.toml."
# By the word with which a refusal begins. Of several refusals the first one here decides: those that no other attempt
# changes come first.
_REFUSED = {
    "restricted": _NOT_LET_IN,
    "auth-required": (
        f"The relay accepts events only from clients that authenticate (NIP-42), and this one did not. {_ANOTHER}"
    ),
    "blocked": f"The relay accepts nothing from this key, or no events of this kind. {_ANOTHER}",
    "pow": f"The relay demands proof of work (NIP-13), which Pylon does not do. {_ANOTHER}",
    "invalid": f"If it is about time, set this machine's clock. Otherwise: {_ANOTHER[0].lower()}{_ANOTHER[1:]}",
    "rate-limited": "The relay limits each sender's events: ask again later, or for less at once.",
}
_REFUSAL = re.compile(r"refused an event: ([a-z-]+):")


def refusals(said: str) -> frozenset[str]:
    """The words with which relays refused an event (NIP-01), in the text of the pool's error."""
    return frozenset(_REFUSAL.findall(said))


def not_taken(error: RelayError, relays: Sequence[RelayStatus]) -> FailureDetail:
    """No relay is known to have taken the request. `error` is the pool's, which names every relay; `relays` are their
    states."""
    # A relay that stayed silent may have passed it on, and it may be worked on now.
    reason = Failure.UNCONFIRMED if error.may_have_arrived else Failure.NOT_SENT
    return FailureDetail(reason, *_why(str(error), relays))


def _why(said: str, relays: Sequence[RelayStatus]) -> tuple[str, str]:
    """The detail and the hint."""
    detail, words = said.removeprefix("no relay took the event: "), refusals(said)
    for word, hint in _REFUSED.items():
        if word in words:
            return detail, hint
    # A relay that does not let our key in may say nothing about an event.
    shut = [f"{relay.url}: {relay.error}" for relay in relays if relay.state == "open" and relay.error]
    if shut:
        return "; ".join(shut), _NOT_LET_IN
    if not any(relay.state == "open" for relay in relays):
        lost = (
            "No relay is connected; `pylon status` says why. Start one with `pylon relay`, or "
            "set others in `relays` of config.toml."
        )
        return detail, lost
    if "did not acknowledge" in said:
        # Silence. A relay that says `rate-limited` is dealt with above.
        return detail, f"It is overloaded, or limits busy senders: ask for less at once. {_ANOTHER}"
    return detail, f"`pylon doctor` examines why a relay keeps a node out. {_ANOTHER}"


def dearer() -> FailureDetail:
    """The provider raised its price after the request's cost was reserved."""
    hint = "Ask again: providers are chosen by their new prices. `pylon providers` shows prices."
    return FailureDetail(Failure.NOT_SENT, "the provider raised its price before the request went out", hint)


def not_written(error: Exception) -> FailureDetail:
    """The rows that must be on disk before a request is published could not be written."""
    hint = (
        "Pylon sends nothing that it could not resume. Check for space on the disk, and that PYLON_HOME is writable."
    )
    return FailureDetail(Failure.NOT_SENT, f"it could not be stored ({error})", hint)


def not_made(error: Exception) -> FailureDetail:
    """A fault of ours kept the request from being made."""
    hint = "This is a bug in Pylon. For details, see logs/pylon.log in PYLON_HOME."
    return FailureDetail(Failure.NOT_SENT, f"the request could not be created ({type(error).__name__})", hint)
