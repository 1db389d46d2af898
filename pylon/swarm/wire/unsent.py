"""Why a request could not be sent, and what to do about it: what relays say of an event, or how they are.

Source: NIP-01 "From relay to client: sending events and notices" (the words that begin a refusal), NIP-42
(`auth-required`).
"""

import re
from collections.abc import Sequence

from pylon.nostr.client.connection import RelayStatus
from pylon.swarm.dispatch.moves import Failure
from pylon.swarm.job import Fault

_NOT_LET_IN = (
    "The relay does not admit this key. If it is a household's relay, this machine may have been "
    "removed from the household."
)
_ANOTHER = "Set another relay in `relays` of config.toml."
# The first of those that relays gave counts: what no other try changes comes first.
_REFUSED = {
    "restricted": _NOT_LET_IN,
    "auth-required": (
        "The relay accepts events only from clients that authenticate (NIP-42), and this client has "
        "no key for that: give its `RelayPool` a `secret`."
    ),
    "blocked": f"The relay accepts nothing from this key, or no events of this kind. {_ANOTHER}",
    "pow": f"The relay demands proof of work (NIP-13), which Pylon does not do. {_ANOTHER}",
    "invalid": (f"If it is about time, set this machine's clock. Otherwise: {_ANOTHER[0].lower()}{_ANOTHER[1:]}"),
    "rate-limited": "The relay limits each sender's events: ask again later, or for less at once.",
}
_REFUSAL = re.compile(r"refused an event: ([a-z-]+):")


def not_taken(said: str, relays: Sequence[RelayStatus]) -> Fault:
    """No relay took it: `said` is what the pool says of each, `relays` how they are now."""
    detail, words = said.removeprefix("no relay took the event: "), set(_REFUSAL.findall(said))
    for word, hint in _REFUSED.items():
        if word in words:
            return Fault(Failure.NOT_SENT, detail, hint)
    # Who is not let in hears nothing of its events: they wait until it is.
    shut = [f"{relay.url}: {relay.error}" for relay in relays if relay.state == "open" and relay.error]
    if shut:
        return Fault(Failure.NOT_SENT, "; ".join(shut), _NOT_LET_IN)
    if not any(relay.state == "open" for relay in relays):
        lost = (
            "No relay is connected; `pylon status` says why. Start one with `pylon relay`, or "
            "set others in `relays` of config.toml."
        )
        return Fault(Failure.NOT_SENT, detail, lost)
    if "did not acknowledge" in said:
        # It said nothing at all. One that says `rate-limited` is told of with that word, as above.
        slow = f"It is overloaded, or limits busy senders: ask for less at once. {_ANOTHER}"
        return Fault(Failure.NOT_SENT, detail, slow)
    return Fault(Failure.NOT_SENT, detail, f"`pylon doctor` examines why a relay keeps a node out. {_ANOTHER}")


def dearer() -> Fault:
    """Its provider asks for more than what was set aside when it was chosen."""
    hint = "Ask again: providers are chosen by their new prices. `pylon providers` shows prices."
    return Fault(Failure.NOT_SENT, "the provider raised its price before the request went out", hint)


def not_written(error: Exception) -> Fault:
    """The disk did not take what must be on it before a request goes out."""
    hint = (
        "Pylon sends nothing that it could not resume. Check for space on the disk, and that PYLON_HOME is writable."
    )
    return Fault(Failure.NOT_SENT, f"it could not be stored ({error})", hint)


def not_made(error: Exception) -> Fault:
    """A fault of ours."""
    hint = "This is a bug in Pylon. For details, see logs/pylon.log in PYLON_HOME."
    return Fault(Failure.NOT_SENT, f"the request could not be created ({type(error).__name__})", hint)
