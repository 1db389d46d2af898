import random

import pytest

from pylon.nostr.backoff import Backoff


@pytest.mark.parametrize("attempt", [1, 2, 5, 50])
def test_the_wait_doubles_up_to_its_limit_with_up_to_half_taken_away(attempt):
    delay = Backoff(first=1.0, most=60.0).delay(attempt, random.Random(attempt))
    full = min(60.0, 2.0 ** (attempt - 1))
    assert full / 2 <= delay <= full
