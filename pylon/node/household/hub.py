"""The household's own relay, in the process of its head: open to members and to who comes with an invite."""

from pylon.node.home import Home
from pylon.node.household.address import ALL_ADDRESSES
from pylon.node.household.members import Door, HouseholdFile
from pylon.node.relay_settings import public_urls, relay_limits
from pylon.relay.server import RelayServer
from pylon.sections import Config


def household_relay(home: Home, config: Config) -> RelayServer:
    """A relay to be started. Until the home is in a household, it is open to nobody."""
    section = config.relay
    host = section.host if "host" in section.model_fields_set else ALL_ADDRESSES
    door = Door(HouseholdFile(home.folder))
    return RelayServer(
        home.root / "relay.db",
        host=host,
        port=section.port,
        limits=relay_limits(section),
        allow_writers=door,
        allow_readers=door,
        public_urls=public_urls(section),
    )
