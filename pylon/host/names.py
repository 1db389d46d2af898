"""The name by which other machines of the network find this one."""

import functools
import socket
import subprocess
import sys

from pylon.host.programs import output_of

# Absolute, because PATH under launchd is not ours.
_ASK_MACOS = ("/usr/sbin/scutil", "--get", "LocalHostName")


@functools.cache
def multicast_name() -> str:
    """This machine's name in multicast DNS, in lower case and without `.local`.

    On a Mac the host name will not do: it is often one that the router has given, such as `mac.fritz.box`. Read once,
    because a program has to be run for it.
    """
    if sys.platform == "darwin":
        try:
            if name := output_of(*_ASK_MACOS).strip():
                return name.lower()
        except (OSError, subprocess.SubprocessError):
            pass
    return socket.gethostname().lower().removesuffix(".local")
