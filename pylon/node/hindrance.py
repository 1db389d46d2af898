"""What keeps jobs away from a serving node, in words, for `pylon status` and the gateway's page. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from pylon.nostr.client.relay_status import RelayStatus

# The reason of a pause by hand. Customers are told it in place of a rule's name too, unless `owner.say_why` is set.
OWNER = "owner"
# Pauses that are not by an owner rule.
_NO_RULES = {
    OWNER: "paused by hand: `pylon resume` ends it",
    "disk": "paused (disk): no room on the disk; it checks again every few seconds",
    "database": "paused (database): the database is damaged; `pylon doctor` says what to do",
}


def unreached(relays: Sequence[RelayStatus], refused: Sequence[str], unannounced: str) -> str:
    """Why customers cannot reach the node, or not all of them; empty if they can.

    `refused` is what the relays said if none admits this key. `unannounced` is why no relay took the announcement.
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
    """A line such as `paused (battery): mains power ends it`. `owner` is that field of the node's `status`."""
    if reason in _NO_RULES:
        return _NO_RULES[reason]
    rules = () if owner is None else owner["rules"]
    ends = [rule["ends"] for rule in rules if rule["holds"]]
    # The rules may have been evaluated again after `reason` was read, and then do not explain it.
    told = ends and reason == ", ".join(rule["name"] for rule in rules if rule["holds"])
    return f"paused ({reason}){f': {told_ends(ends)}' if told else ''}"


def told_ends(ends: Sequence[str]) -> str:
    """What ends a pause, as the end of a sentence."""
    return f"{' and '.join(ends)} {'ends' if len(ends) == 1 else 'end'} it"
