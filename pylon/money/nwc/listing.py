"""Seeking one payment in what a wallet lists (NIP-47 `list_transactions`), page by page.

Values in, decisions out: that a payment is not there frees its money, and so takes a list that was seen to its end,
or past the time before which it cannot lie. A wallet may leave out `from`, list in any order, and show one page for
ever.
"""

from typing import Any

PAGE = 20
# By so much a wallet's clock may differ from ours, in seconds.
SLACK_S = 3_600


class Search:
    """`params` ask for the next page, `take` reads it. When it `is_over`, `found` is the payment, or None: it is not
    there. When it `is_stuck`, the wallet shows no more, and that says nothing. `since` is when the payment can have
    begun, in Unix seconds."""

    def __init__(self, payment_hash: str, since: float) -> None:
        self.found: dict[str, Any] | None = None
        self.is_over = self.is_stuck = False
        self._hash = payment_hash
        self._begins = max(0, int(since) - SLACK_S)
        self._seen: set[str] = set()
        # The times of the first and of the last one, as long as all that was listed came in order, the newest first.
        self._first = self._last = -1
        self._in_order = True

    @property
    def params(self) -> dict[str, Any]:
        """Of the request for the next page."""
        first = {"from": self._begins, "limit": PAGE, "unpaid": True, "type": "outgoing"}
        return {**first, "offset": len(self._seen)} if self._seen else first

    def take(self, listed: object) -> None:
        """One page, as the wallet gave it."""
        page = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        self.found = next((item for item in page if item.get("payment_hash") == self._hash), None)
        hashes = {str(item.get("payment_hash")) for item in page}
        nothing_new = hashes <= self._seen
        self._seen |= hashes
        self._follow([item.get("created_at") for item in page])
        # A page that falls shows that the list does. One of a single moment shows nothing.
        passed = self._in_order and len(self._seen) >= PAGE and self._first > self._last < self._begins
        # A full page that shows nothing new may be the only one that it ever shows.
        self.is_over = self.found is not None or passed or (nothing_new and len(page) < PAGE)
        self.is_stuck = nothing_new and not self.is_over

    def _follow(self, times: list[object]) -> None:
        for at in times:
            if type(at) is not int or 0 <= self._last < at:
                self._in_order = False
                return
            self._first, self._last = max(self._first, at), at
