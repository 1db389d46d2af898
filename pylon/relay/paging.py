"""Divides an answer into pages, so that a client that stops reading holds one page of it in memory, not all of it."""

from collections.abc import Iterator, Mapping

# Small events are read many at a time: one query costs as much as reading several of them.
PAGE_EVENTS = 50
PAGE_BYTES = 256 * 1024


def pages(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """The sequence numbers of each page's events. `sizes` maps sequence number to bytes, as `EventStore.find`
    returns.

    The order is kept. An event that is larger than a page has a page of its own.
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
