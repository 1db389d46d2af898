"""Which host names and addresses are the machine itself."""

from pylon.relay_url import is_loopback


def test_only_loopback_is_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "::1", "localhost", "127.1.2.3"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "example.com", ""]))
