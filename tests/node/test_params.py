"""Parameters of another type than a call takes are told to whoever called, and are no fault of the node."""

import math
from pathlib import Path

import pytest

from pylon import config as settings
from pylon.errors import UsageError
from pylon.money.network import Network
from pylon.node import identity
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.params import flag, number, text, whole
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.wallet import accounting

WRONG = [
    ("jobs", "limit", "a"),
    ("jobs", "limit", 10**19),
    ("jobs", "limit", -1),
    ("jobs", "state", 3),
    ("providers", "wait_s", "x"),
    ("providers", "free", "yes"),
    ("providers", "most_msat", 1.5),
    ("providers", "trust", [1]),
    ("providers", "model", {}),
    ("why-provider", "wait_s", {}),
    ("earnings", "since", "x"),
    ("earnings", "by", 5),
    ("wallet-history", "limit", "x"),
    ("wallet-history", "since", True),
    ("map", "jobs", 3),
    ("map", "jobs", "a"),
    ("map", "timeout_s", "a"),
    ("map", "deadline_s", "a"),
    ("map", "budget_msat", -1),
    ("map", "priority", "high"),
    ("map", "dry_run", "no"),
    ("invite", "minutes", "x"),
    ("invite", "count", "x"),
    ("invite", "relay", 3),
    ("invite", "name", 3),
    ("household-remove", "key", 3),
    ("stop", "at_once", "maybe"),
]


async def test_a_parameter_of_another_type_is_named_and_the_node_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    identity.create(home.identity_file)
    async with Core(home, settings.parse({"relays": ["ws://127.0.0.1:9"]}), serve=False) as core:
        node = RemoteNode(home.socket)
        for call, name, value in WRONG:
            with pytest.raises(UsageError, match=rf"^{name} (is|must be) "):
                await result_of(node, call, {name: value})
        assert not core.stopping.is_set()
        assert await result_of(node, "jobs", {"limit": None, "state": None}) == {"jobs": []}


@pytest.mark.parametrize("amount", [None, 0, -1, 1.0, True, "5"])
async def test_an_amount_that_is_none_is_named(amount: object) -> None:
    with pytest.raises(UsageError, match=r"^sats must be a whole number"):
        await accounting.invoice(None, Network.PLAY, {"sats": amount})
    with pytest.raises(UsageError, match=r"^most_sat must be a whole number"):
        await accounting.pay(None, Network.PLAY, {"most_sat": amount})


def test_what_is_not_given_is_what_it_is_by_default() -> None:
    for given in ({}, {"a": None}):
        assert (whole(given, "a", 3), number(given, "a", 0.5), text(given, "a", None), flag(given, "a")) == (
            3,
            0.5,
            None,
            False,
        )


def test_numbers_are_within_their_bounds() -> None:
    assert whole({"a": -3}, "a", 0, low=-3) == -3
    assert number({"a": math.inf}, "a", 0.0) == math.inf
    for value in (-0.1, math.nan, 1e11, "1", False):
        with pytest.raises(UsageError, match="a must be a number"):
            number({"a": value}, "a", 0.0)
    for value in (-1, 2**63, 1.0, True, "1"):
        with pytest.raises(UsageError, match="a must be a whole number"):
            whole({"a": value}, "a", 0)
