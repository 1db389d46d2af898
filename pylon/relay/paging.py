"""Pages in which stored events are read: what one peer that stalls holds in memory, beside what waits to be sent."""

from collections.abc import Iterator, Mapping

# Small events are read many at once, for the way to the file costs as much as several of them.
PAGE_EVENTS = 50
PAGE_BYTES = 256 * 1024


def pages(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Numbers of events and their bytes, as `EventStore.find` gives them; those of each page, in the same order.

    An event that is larger than a page has one of its own.
    """
    page: list[int] = []
    left = PAGE_BYTES
    for seq, size in sizes.items():
        if page and (size > left or len(page) == PAGE_EVENTS):
            yield page
            page, left = [], PAGE_BYTES
        page.append(seq)
        left -= size
    if page:
        yield page
