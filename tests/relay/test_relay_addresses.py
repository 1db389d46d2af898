"""Which addresses of a relay are its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError
from pylon.relay.addresses import Addresses, authority, public_authorities

OURS = Addresses(frozenset({"desk.local", "192.168.1.5"}), 7447, public_authorities(["wss://Relay.Example/x"]))


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("ws://desk.local:7447", True),
        ("ws://DESK.local:7447/", True),
        ("ws://192.168.1.5:7447", True),
        ("ws://localhost:7447", True),
        ("ws://127.8.8.8:7447", True),
        ("ws://[::1]:7447", True),
        ("wss://relay.example", True),
        ("wss://relay.example:443/y", True),
        ("ws://desk.local", False),
        ("ws://desk.local:7448", False),
        ("ws://127.0.0.1:7448", False),
        ("ws://relay.example", False),
        ("wss://relay.example:7447", False),
        ("wss://evil.example:7447", False),
        ("ws://192.168.1.6:7447", False),
    ],
)
def test_an_address_is_ours_with_its_port(url: str, own: bool) -> None:
    named = authority(url)
    assert named is not None
    assert OURS.holds(named) is own


@given(
    st.one_of(st.text(), st.builds("{}://{}:{}{}".format, st.sampled_from(["ws", "wss", "http"]), *[st.text()] * 3))
)
def test_whatever_stands_in_a_tag_is_an_address_or_none(text: str) -> None:
    named = authority(text)
    assert named is None or (named[0] and 0 <= named[1] <= 65_535)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:7447", "127.0.0.1:7447", "ws://", "ws://[", "ws://a:70000", "ws://" + "a" * 300, ""]
)
def test_what_is_no_address_of_a_relay_is_none(url: str) -> None:
    assert authority(url) is None


@pytest.mark.parametrize("url", ["https://relay.example", "relay.example", "ws://me@relay.example"])
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(MalformedError):
        public_authorities([url])
