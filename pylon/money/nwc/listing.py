"""Searches a wallet's list (NIP-47 `list_transactions`) for one payment, page by page.

Concluding that a payment is not there frees its money. So that takes a list that was read to its end, or, if it is in
order, past the earliest time of the payment. A wallet may ignore `from`, list in any order, and repeat one page for
ever.
"""

from typing import Any

PAGE = 20
# How much a wallet's clock may differ from ours, in seconds.
SLACK_S = 3_600


class Search:
    """The search for one payment. `params` asks for the next page, and `take` reads it.

    Once it `is_over`, `found` is the payment, or None if it is not there. Once it `is_stuck`, the wallet shows no
    more pages and nothing follows. `since` is the earliest time of the payment, in Unix seconds.
    """

    def __init__(self, payment_hash: str, since: float) -> None:
        self.found: dict[str, Any] | None = None
        self.is_over = self.is_stuck = False
        self._hash = payment_hash
        self._begins = max(0, int(since) - SLACK_S)
        self._seen: set[str] = set()
        # The times of the first and the last payment so far, as long as the list is in order, the newest first.
        self._first = self._last = -1
        self._in_order = True

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the request for the next page."""
        first = {"from": self._begins, "limit": PAGE, "unpaid": True, "type": "outgoing"}
        return {**first, "offset": len(self._seen)} if self._seen else first

    def take(self, listed: object) -> None:
        """Reads one page as the wallet gave it. Some write an empty one as null; anything else is not a list."""
        if listed is not None and not isinstance(listed, list):
            self.is_stuck = True
            return
        page = [item for item in listed or () if isinstance(item, dict)]
        self.found = next((item for item in page if item.get("payment_hash") == self._hash), None)
        hashes = {str(item.get("payment_hash")) for item in page}
        nothing_new = hashes <= self._seen
        self._seen |= hashes
        self._follow([item.get("created_at") for item in page])
        # Falling times show that the list is in order; a page with only one time shows nothing.
        passed = self._in_order and len(self._seen) >= PAGE and self._first > self._last < self._begins
        # A wallet that repeats a full page may have more payments that it never shows.
        self.is_over = self.found is not None or passed or (nothing_new and len(page) < PAGE)
        self.is_stuck = nothing_new and not self.is_over

    def _follow(self, times: list[object]) -> None:
        for at in times:
            if type(at) is not int or 0 <= self._last < at:
                self._in_order = False
                return
            self._first, self._last = max(self._first, at), at
