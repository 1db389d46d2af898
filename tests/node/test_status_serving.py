"""A node that takes jobs, and that none can reach, says so."""

import pytest

from pylon.cli.node import _but

OPEN = {"state": "open", "error": ""}
REFUSED = {"state": "open", "error": "the relay refused our key: invalid: created_at is more than 600 s away"}
AWAY = {"state": "connecting", "error": "no route"}
AHEAD = "created_at is more than 900 s ahead of this relay's clock"


@pytest.mark.parametrize(
    ("relays", "refused", "unannounced", "said"),
    [
        ([OPEN], [], "", ""),
        ([OPEN, REFUSED, AWAY], [], "", ""),
        ([REFUSED, AWAY], [], "", "no relay lets this key in: sealed jobs"),
        ([REFUSED], ["ws://r the relay refused our key"], "", "no relay lets this key in: nobody can ask"),
        ([OPEN], [], AHEAD, f"it is not seen: {AHEAD}"),
    ],
)
def test_what_keeps_jobs_away_is_said_beside_that_they_are_taken(relays, refused, unannounced, said):
    found = _but({"relays": relays, "refused": refused, "provider": {"unannounced": unannounced}})
    assert said in found and bool(said) == bool(found)


def test_a_node_older_than_this_command_says_less():
    assert _but({"relays": [OPEN], "refused": [], "provider": {}}) == ""
