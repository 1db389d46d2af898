"""What `tests.node.forked` imports once: the libraries, and of Pylon whatever reads nothing of its surroundings.

The commands themselves (`pylon.cli`) do: a console knows its terminal from the beginning.
"""

import rich.live
import rich.progress
import rich.table
import tomlkit
import typer.main

import pylon.config
import pylon.gateway.server
import pylon.node.bank
import pylon.node.core
import pylon.node.doctor.examine
import pylon.node.rlm.run
import pylon.node.session
import pylon.relay.server

__all__ = ["pylon", "rich", "tomlkit", "typer"]
