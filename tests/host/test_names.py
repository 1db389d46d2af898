import socket
import subprocess

import pytest

from pylon.host import names
from pylon.node.household.address import reachable


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Mac.fritz.box")
    names.multicast_name.cache_clear()
    yield
    names.multicast_name.cache_clear()


def asked(monkeypatch, answer: str) -> list[tuple[str, ...]]:
    commands = []

    def output_of(*command: str) -> str:
        commands.append(command)
        return answer

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(names, "output_of", output_of)
    return commands


def test_a_mac_is_found_under_its_name_in_multicast_dns_and_not_under_one_that_a_router_gave(monkeypatch):
    commands = asked(monkeypatch, "Anns-MacBook-Pro\n")
    assert reachable("ws://127.0.0.1:7447") == "ws://anns-macbook-pro.local:7447"
    assert names.multicast_name() == "anns-macbook-pro"
    assert commands == [("/usr/sbin/scutil", "--get", "LocalHostName")], "once a process"


def test_where_macos_does_not_tell_the_name_the_host_name_stands_in(monkeypatch):
    def fails(*command: str) -> str:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(names, "output_of", fails)
    assert names.multicast_name() == "mac.fritz.box"


def test_elsewhere_it_is_the_host_name(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(socket, "gethostname", lambda: "Desk.local")
    assert names.multicast_name() == "desk"
