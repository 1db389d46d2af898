"""The household's relay, run in the head's process. It admits members, and the keys of open invites."""

from pylon.node.home import Home
from pylon.node.household.address import ALL_ADDRESSES
from pylon.node.household.members import AdmittedKeys, HouseholdFile
from pylon.node.relay_settings import public_urls, relay_limits
from pylon.relay.server import RelayServer
from pylon.sections import Config


def household_relay(home: Home, config: Config) -> RelayServer:
    """The relay, not started yet. Until the home is in a household, it admits nobody."""
    section = config.relay
    host = section.host if "host" in section.model_fields_set else ALL_ADDRESSES
    admitted = AdmittedKeys(HouseholdFile(home.folder))
    return RelayServer(
        home.root / "relay.db",
        host=host,
        port=section.port,
        limits=relay_limits(section),
        allow_writers=admitted,
        allow_readers=admitted,
        public_urls=public_urls(section),
    )
