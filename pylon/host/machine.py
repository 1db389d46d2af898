"""This machine, whatever its system."""

import sys

from pylon.host.linux import LinuxMachine
from pylon.host.macos_machine import MacMachine
from pylon.host.readings import Machine


def this_machine() -> Machine:
    """Its readings."""
    return MacMachine() if sys.platform == "darwin" else LinuxMachine()
