"""What keeps jobs away from a node that serves is said by the node itself: in its status, and so on the page."""

from pathlib import Path

import pytest

from pylon import config as settings
from pylon.cli.status import _serving
from pylon.node import identity
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.hindrance import OWNER, paused_line, unreached
from pylon.node.home import Home
from pylon.node.session import LocalNode
from pylon.nostr.client.relay_status import RelayStatus

OPEN = RelayStatus("ws://a", "open")
REFUSED = RelayStatus(
    "ws://b", "open", error="the relay refused our key: invalid: created_at is more than 600 s away"
)
AWAY = RelayStatus("ws://c", "connecting", error="no route")
AHEAD = "created_at is more than 900 s ahead of this relay's clock"
TAKES = {"paused": "", "draining": False, "engine": {"state": "ready"}}
OWNED = {"rules": [{"name": "battery", "holds": False, "ends": "mains power"}]}


@pytest.mark.parametrize(
    ("relays", "refused", "unannounced", "said"),
    [
        ([OPEN], [], "", ""),
        ([OPEN, REFUSED, AWAY], [], "", ""),
        ([AWAY], [], "", "no relay is connected, so no one can reach the node"),
        ([AWAY], [], AHEAD, "no relay is connected, so no one can reach the node"),
        ([REFUSED, AWAY], [], "", "no relay admits this key, so sealed jobs"),
        (
            [REFUSED],
            ["ws://r the relay refused our key"],
            "",
            "no relay admits this key, so no one can reach the node",
        ),
        ([OPEN], [], AHEAD, f"customers cannot see it: {AHEAD}"),
    ],
)
def test_why_nobody_asks_a_node_is_known_from_its_relays(relays, refused, unannounced, said):
    found = unreached(relays, refused, unannounced)
    assert said in found and bool(said) == bool(found)


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ({}, "taking jobs, but no relay is connected"),
        ({"draining": True}, "draining, but no relay is connected"),
        ({"engine": {"state": "failed"}}, "refusing every job: the model failed"),
        (
            {"engine": {"state": "loading"}},
            "the model is loading: jobs begin when it is ready, but no relay is connected",
        ),
        ({"engine": {"state": "loading"}, "draining": True}, "draining, but no relay is connected"),
        ({"paused": OWNER}, "paused by hand: `pylon resume` ends it"),
        ({"paused": "battery"}, "paused (battery)"),
    ],
)
def test_the_command_says_what_the_node_says(provider, said):
    data = {"provider": TAKES | provider, "owner": OWNED, "hindrance": "no relay is connected"}
    assert _serving(data) == said


def test_a_node_older_than_this_command_says_less():
    assert _serving({"provider": TAKES, "owner": OWNED}) == "taking jobs"


async def test_a_node_that_no_relay_lets_in_says_so_in_its_status_and_of_a_pause_what_ends_it(tmp_path: Path):
    home = Home(tmp_path, "play")
    home.create()
    identity.create(home.identity_file)
    raw = {"relays": ["ws://127.0.0.1:9"], "inference": {"engine": "instant"}, "owner": {"rules": False}}
    async with Core(home, settings.parse(raw), serve=True) as core:
        node = LocalNode(core)
        assert (await result_of(node, "status"))["hindrance"] == "no relay is connected, so no one can reach the node"
        await result_of(node, "pause")
        assert (await result_of(node, "status"))["hindrance"] == paused_line(OWNER, None)
    async with Core(home, settings.parse(raw), serve=False) as core:
        assert (await result_of(LocalNode(core), "status"))["hindrance"] == ""
