"""`[relay]` as what a relay is made with. Apart from the other settings: a node that only serves holds no relay."""

from pylon.errors import MalformedError, UsageError
from pylon.relay.limits import RelayLimits
from pylon.relay_url import normalize_relay_url, relay_spelling
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


def public_urls(section: RelaySection, given: list[str] | None = None) -> tuple[str, ...]:
    """The addresses that clients know a relay of ours by, those `given` on the command line first.

    Raises `UsageError` for one of these that is none.
    """
    try:
        spelled = [normalize_relay_url(url) for url in given or ()]
    except MalformedError as error:
        raise UsageError(
            f"--public-url: {error}", hint="Write it like this: --public-url wss://relay.example"
        ) from error
    return tuple(dict.fromkeys((*spelled, *map(relay_spelling, section.public_urls))))
