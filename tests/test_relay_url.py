"""Where a relay listens, and which host names and addresses are the machine itself."""

import pytest

from pylon.relay_url import host_and_port, is_loopback


def test_only_loopback_is_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "::1", "localhost", "127.1.2.3"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "example.com", ""]))


def test_a_relay_listens_at_the_port_of_its_scheme_unless_its_address_names_one():
    assert host_and_port("wss://relay.example/path") == ("relay.example", 443)
    assert host_and_port("ws://relay.example") == ("relay.example", 80)
    assert host_and_port("ws://[::1]:4848") == ("::1", 4848)
    for other in ("https://relay.example", "relay.example", "ws://relay.example:x"):
        with pytest.raises(ValueError):
            host_and_port(other)
