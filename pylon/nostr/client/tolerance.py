"""How many forged or unwanted events a relay may send before we disconnect.

Most relays verify the events that they take, but not all do. Somebody who publishes forgeries to such a relay must
not be able to make everybody leave it. So each forgery is only dropped, which costs a hash and a signature check; the
connection ends when there are so many of them that they are a load here.
"""

from pylon.token_bucket import TokenBucket

# Allowed at once: as many as the stored answers to all of our subscriptions can hold, a fraction of a second's work.
BURST = 2_000
# Allowed after that: a few thousandths of a core.
PER_SECOND = 20.0


def tolerance() -> TokenBucket:
    """The allowance of one connection."""
    return TokenBucket(BURST, PER_SECOND)
