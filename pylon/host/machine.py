"""Chooses the readings of this machine's system."""

import sys

from pylon.host.linux import LinuxMachine
from pylon.host.macos_machine import MacMachine
from pylon.host.readings import Machine


def this_machine() -> Machine:
    """The readings of this machine."""
    return MacMachine() if sys.platform == "darwin" else LinuxMachine()
