"""The IP addresses of this machine."""

import ipaddress
import socket

import psutil


def addresses() -> list[str]:
    """The addresses at which other machines may reach this one, IPv4 first; without loopback and link-local ones."""
    found = set()
    for interface in psutil.net_if_addrs().values():
        for one in interface:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                found.add(ipaddress.ip_address(one.address.partition("%")[0]))
    kept = [one for one in found if not (one.is_loopback or one.is_link_local or one.is_unspecified)]
    return [str(one) for one in sorted(kept, key=lambda one: (one.version, int(one)))]
