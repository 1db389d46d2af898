"""Whether a connection's own address still belongs to this machine."""

import errno
import socket
from typing import Any


def is_still_ours(address: tuple[Any, ...]) -> bool:
    """Whether this machine has the address that a connected socket of IPv4 or IPv6 calls its own (`getsockname`).

    When a laptop changes its network, its connections are not ended: what is sent on them is lost, and nothing says
    so for a minute or more.
    """
    host, _, *more = address
    try:
        with socket.socket(socket.AF_INET6 if more else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: the system only looks whether it has the address.
            probe.bind((host, 0, *more))
    except OSError as error:
        # Anything else, such as too many open files, says nothing about it.
        return error.errno != errno.EADDRNOTAVAIL
    return True
