"""Which process is at the other end of a Unix socket."""

import socket
import struct
import sys

from pylon.host import macos

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def peer_pid(connection: socket.socket) -> int | None:
    """The id of the process that listens there, even if it hangs; None if the system does not tell."""
    try:
        if sys.platform == "darwin":
            return macos.peer_pid(connection)
        said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    return int(_CREDENTIALS.unpack(said)[0]) or None
