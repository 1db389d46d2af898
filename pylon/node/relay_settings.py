"""The settings in `[relay]` as arguments for a relay.

Not in `settings`, so that a node that only serves does not load the relay.
"""

from pylon.errors import MalformedError, UsageError
from pylon.relay.limits import RelayLimits
from pylon.relay_url import normalize_relay_url, relay_spelling
from pylon.sections import RelaySection


def relay_limits(
    section: RelaySection, *, writes_per_minute: int | None = None, max_mb: int | None = None
) -> RelayLimits:
    """The limits of our own relay. Given arguments override the section; 0 means no limit."""
    writes = section.writes_per_minute if writes_per_minute is None else writes_per_minute
    megabytes = section.max_mb if max_mb is None else max_mb
    return RelayLimits(
        writes_per_minute=writes or None,
        store_bytes=megabytes * 1024 * 1024 or None,
        kinds=frozenset(section.kinds) or None,
    )


def public_urls(section: RelaySection, given: list[str] | None = None) -> tuple[str, ...]:
    """The addresses under which clients know our own relay, with those `given` on the command line first.

    Raises `UsageError` for an invalid one of these.
    """
    try:
        spelled = [normalize_relay_url(url) for url in given or ()]
    except MalformedError as error:
        raise UsageError(
            f"--public-url: {error}", hint="Write it like this: --public-url wss://relay.example"
        ) from error
    return tuple(dict.fromkeys((*spelled, *map(relay_spelling, section.public_urls))))
