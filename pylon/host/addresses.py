"""The addresses under which other machines may reach this one."""

import ipaddress
import socket

import psutil


def addresses() -> list[str]:
    """Those of its interfaces, IPv4 first, without loopback and what only one cable knows (link-local)."""
    found = set()
    for interface in psutil.net_if_addrs().values():
        for one in interface:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                found.add(ipaddress.ip_address(one.address.partition("%")[0]))
    kept = [one for one in found if not (one.is_loopback or one.is_link_local or one.is_unspecified)]
    return [str(one) for one in sorted(kept, key=lambda one: (one.version, int(one)))]
