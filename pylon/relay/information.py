"""What a relay says about itself over HTTP (NIP-11)."""

from typing import Any

from pylon import __version__
from pylon.nostr.event import AROUND_CONTENT_BYTES, MAX_TAGS
from pylon.nostr.messages import MAX_SUBSCRIPTION_ID
from pylon.relay.limits import RelayLimits

CONTENT_TYPE = "application/nostr+json"
SUPPORTED_NIPS = (1, 9, 11, 40, 42, 45, 70)


def information(limits: RelayLimits, *, require_auth: bool, restricted_writes: bool) -> dict[str, Any]:
    """The NIP-11 document. Limits that NIP-11 does not name are listed with the others, under names of our own."""
    limitation: dict[str, Any] = {
        "max_message_length": limits.message_bytes,
        "max_subscriptions": limits.subscriptions,
        "max_filters": limits.filters,
        "max_limit": limits.results,
        "default_limit": limits.results,
        "max_subid_length": MAX_SUBSCRIPTION_ID,
        "max_event_tags": MAX_TAGS,
        # Only the size of a whole event is limited. This is what is left for the content of an event without tags.
        "max_content_length": max(0, limits.event_bytes - AROUND_CONTENT_BYTES),
        "min_pow_difficulty": 0,
        "created_at_upper_limit": limits.ahead_s,
        "auth_required": require_auth,
        "payment_required": False,
        # NIP-11: whether some condition has to be met for an event to be accepted.
        "restricted_writes": restricted_writes or limits.kinds is not None,
        "max_event_length": limits.event_bytes,
        "max_tag_value_length": limits.tag_value_bytes,
        "max_filter_values": limits.filter_values,
        "max_open_values": limits.open_values,
        "max_all_open_values": limits.all_open_values,
        "max_lookup_seconds": limits.lookup_s,
        "max_keys": limits.keys,
        "max_connections": limits.connections,
        "max_queue_bytes": limits.queue_bytes,
        "max_queue_messages": limits.queue_frames,
        "max_events_in_flight": limits.in_flight,
        "max_waiting_bytes": limits.waiting_bytes,
        "max_events_per_minute": limits.writes_per_minute,
        "max_store_bytes": limits.store_bytes,
        "allowed_kinds": None if limits.kinds is None else sorted(limits.kinds),
    }
    return {
        "name": "Pylon relay",
        "description": (
            "A small relay for a swarm of language models (NIP-90). Encrypted jobs are shown only to "
            "their author and to the key in their p tag, after authentication."
        ),
        "supported_nips": list(SUPPORTED_NIPS),
        "software": "pylon",
        "version": __version__,
        "limitation": {name: value for name, value in limitation.items() if value is not None},
    }
