"""Whether an address is this machine's: of a network that it has left it is not."""

import errno
import socket

import pytest

from pylon.nostr.websocket.local_address import is_still_ours


def test_an_address_of_this_machine_is_its_own():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        # The port is in use, which does not matter.
        assert is_still_ours(client.getsockname())


def test_an_address_that_no_machine_has_is_not():
    assert not is_still_ours(("192.0.2.7", 40_000))


def test_nor_is_one_of_ipv6():
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert not is_still_ours(("2001:db8::7", 40_000, 0, 0))


def test_what_says_nothing_of_the_address_ends_no_connection(monkeypatch):
    def refused(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", refused)
    assert is_still_ours(("192.0.2.7", 40_000))
