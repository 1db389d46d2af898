"""`[relay]` and what becomes of it; the list of a swarm's kinds in docs/relay.md."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from pylon.errors import UsageError
from pylon.jobs import kinds
from pylon.money.nwc import nip47
from pylon.node.household import wire
from pylon.node.relay_settings import public_urls, relay_limits
from pylon.nostr.nip65 import RELAY_LIST_KIND
from pylon.relay.limits import RelayLimits
from pylon.sections import RelaySection

PAGE = (Path(__file__).parents[2] / "docs" / "relay.md").read_text()


def test_without_settings_a_relay_has_its_own_limits() -> None:
    assert relay_limits(RelaySection()) == RelayLimits()


def test_options_go_before_settings_and_zero_is_no_bound() -> None:
    section = RelaySection(kinds=[1, 7], writes_per_minute=60, max_mb=5)
    assert relay_limits(section) == RelayLimits(
        kinds=frozenset({1, 7}), writes_per_minute=60, store_bytes=5 * 1024 * 1024
    )
    given = relay_limits(section, writes_per_minute=0, max_mb=0)
    assert (given.writes_per_minute, given.store_bytes) == (None, None)


def test_addresses_on_the_command_line_go_before_those_of_the_settings() -> None:
    section = RelaySection(public_urls=["wss://Relay.Example/"])
    assert public_urls(section) == ("wss://relay.example",)
    assert public_urls(section, ["ws://relay:7447", "wss://relay.example"]) == (
        "ws://relay:7447",
        "wss://relay.example",
    )


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="public-url"):
        public_urls(RelaySection(), ["https://relay.example"])
    with pytest.raises(ValidationError):
        RelaySection(public_urls=["https://relay.example"])


def test_what_is_no_kind_is_refused() -> None:
    with pytest.raises(ValidationError):
        RelaySection(kinds=[65_536])


def test_the_documented_relay_of_a_swarm_takes_what_pylon_writes() -> None:
    section = PAGE.partition("## A relay for a swarm alone")[2].partition("## ")[0]
    block = "\n".join(line.strip() for line in section.splitlines() if line.startswith("    "))
    taken = set(tomllib.loads(block)["relay"]["kinds"])
    jobs = {kinds.DELETION, kinds.FEEDBACK, kinds.HEARTBEAT, kinds.ANNOUNCEMENT}
    wallet = {nip47.INFO, nip47.REQUEST, nip47.RESPONSE, nip47.NOTIFICATION}
    written = jobs | kinds.REQUEST_KINDS | kinds.RESULT_KINDS | wallet | {wire.JOIN, wire.LIST, RELAY_LIST_KIND}
    assert taken == written | {0}
