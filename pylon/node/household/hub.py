"""The household's own relay, in the process of its head: open to members and to who comes with an invite."""

from pylon.config import Config
from pylon.node import identity
from pylon.node.home import Home
from pylon.node.household.inviting import found
from pylon.node.household.members import Door, HouseholdFile
from pylon.relay.server import RelayServer

# Other machines of the network are to reach it; who may use it is the door's matter.
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - see above


def household_relay(home: Home, config: Config, name: str) -> RelayServer:
    """A relay to be started. A home without a household becomes the head of one. Raises `SetupError`."""
    file = HouseholdFile(home.folder)
    if file.get() is None:
        file.save(found(identity.load(home.identity_file).public, (), name))
    section = config.relay
    host = section.host if "host" in section.model_fields_set else ALL_ADDRESSES
    door = Door(file)
    return RelayServer(home.root / "relay.db", host=host, port=section.port, allow_writers=door, allow_readers=door)
