"""What keeps jobs away from a node that serves, in words: `pylon status` and the page say the same. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from pylon.nostr.client.relay_status import RelayStatus

# The reason of a pause by hand, told to customers too in place of a rule's name.
OWNER = "owner"
# Pauses that no rule ends.
_NO_RULES = {
    OWNER: "paused by hand: `pylon resume` ends it",
    "disk": "paused (disk): no room on the disk; it checks again every few seconds",
    "database": "paused (database): the database is damaged; `pylon doctor` says what to do",
}


def unreached(relays: Sequence[RelayStatus], refused: Sequence[str], unannounced: str) -> str:
    """Why customers do not reach a node, or not all do; empty where nothing is in their way.

    `refused`: what relays said that let this key in nowhere; `unannounced`: why no relay took its announcement.
    """
    if refused:
        return "no relay admits this key, so no one can reach the node"
    opened = [relay for relay in relays if relay.state == "open"]
    if not opened:
        return "no relay is connected, so no one can reach the node"
    if all(relay.error for relay in opened):
        return "no relay admits this key, so sealed jobs (most jobs) may not arrive"
    return f"customers cannot see it: {unannounced}" if unannounced else ""


def paused_line(reason: str, owner: Mapping[str, Any] | None) -> str:
    """`paused (battery): mains power ends it`. `owner` is what `status` has of the rules."""
    if reason in _NO_RULES:
        return _NO_RULES[reason]
    rules = () if owner is None else owner["rules"]
    ends = [rule["ends"] for rule in rules if rule["holds"]]
    # The rules may have been evaluated again since.
    told = ends and reason == ", ".join(rule["name"] for rule in rules if rule["holds"])
    return f"paused ({reason}){f': {told_ends(ends)}' if told else ''}"


def told_ends(ends: Sequence[str]) -> str:
    """What ends a pause, as the end of a sentence."""
    return f"{' and '.join(ends)} {'ends' if len(ends) == 1 else 'end'} it"
