import ipaddress

from pylon.gateway.urls import urls
from pylon.host.addresses import addresses

MINE = ["192.168.1.5", "10.0.0.1", "fd00::1"]


def test_a_gateway_of_this_machine_is_told_to_no_other():
    assert urls("127.0.0.1", 1, MINE) == ("http://127.0.0.1:1", [])
    assert urls("localhost", 1, MINE) == ("http://localhost:1", [])
    assert urls("::1", 1, MINE) == ("http://[::1]:1", [])


def test_at_all_addresses_it_is_told_by_those_that_can_be_opened():
    here, others = urls("0.0.0.0", 7448, MINE)
    assert here == "http://127.0.0.1:7448"
    assert others == ["http://192.168.1.5:7448", "http://10.0.0.1:7448"]
    here, others = urls("::", 7448, MINE)
    assert here == "http://[::1]:7448" and others[-1] == "http://[fd00::1]:7448" and len(others) == 3


def test_at_one_address_or_name_it_is_that():
    assert urls("192.168.1.5", 1, MINE) == ("http://192.168.1.5:1", ["http://192.168.1.5:1"])
    assert urls("node.lan", 1, []) == ("http://node.lan:1", ["http://node.lan:1"])


def test_this_machine_s_addresses_are_none_that_only_it_knows():
    for one in map(ipaddress.ip_address, addresses()):
        assert not one.is_loopback and not one.is_link_local and not one.is_unspecified
