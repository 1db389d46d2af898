"""`[relay]` as the limits of a relay. Apart from the other settings: a node that only serves holds no relay."""

from pylon.relay.limits import RelayLimits
from pylon.sections import RelaySection


def relay_limits(
    section: RelaySection, *, writes_per_minute: int | None = None, max_mb: int | None = None
) -> RelayLimits:
    """What a relay of ours takes; what is given goes before what the section says, and 0 means no bound."""
    writes = section.writes_per_minute if writes_per_minute is None else writes_per_minute
    megabytes = section.max_mb if max_mb is None else max_mb
    return RelayLimits(
        writes_per_minute=writes or None,
        store_bytes=megabytes * 1024 * 1024 or None,
        kinds=frozenset(section.kinds) or None,
    )
