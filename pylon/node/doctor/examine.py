"""Reads all that the checks of a home judge, and has it judged (`pylon doctor`)."""

import asyncio
import time

from pylon import config as settings
from pylon.errors import PylonError
from pylon.node.doctor.asking import listens, read_relays
from pylon.node.doctor.examination import Examination, NodeReading, PortReading, Readings, judge_all, judge_settings
from pylon.node.doctor.reading import (
    read_code,
    read_database,
    read_home,
    read_machine,
    read_model,
    read_node,
    read_offer,
    read_pause,
    read_service,
    read_unknown,
    read_wallet,
    urls_of,
)
from pylon.node.home import Home
from pylon.node.household.members import Household, HouseholdFile, relay_urls
from pylon.node.settings import check_settings
from pylon.nostr.bech32 import nip19
from pylon.sections import Config
from pylon.store.look import is_copied_to


async def examine() -> Examination:
    """Examines the home that PYLON_HOME names. Never raises a `PylonError`: what it meets is a finding."""
    root = settings.home_directory()
    home = Home(root)
    try:
        config = settings.load(root / "config.toml")
        home = Home(root, config.network)
        check_settings(config)
    except PylonError as error:
        return judge_settings(error, read_machine(home), NodeReading(*await read_node(home)))
    return judge_all(await _read(home, config), time.time())


async def _read(home: Home, config: Config) -> Readings:
    kept, secret = read_home(home)
    node = NodeReading(*await read_node(home))
    status, running = node.status, node.running
    public = secret.public if secret is not None else _public(status["npub"] if status else "")
    household, household_fault = _read_household(home)
    database = None if running else await asyncio.to_thread(read_database, home)
    planned = relay_urls(config.relays, household, public)
    asked, model, wallet, service = await asyncio.gather(
        read_relays(urls_of(status, planned), public, secret),
        read_model(home, config),
        read_wallet(home, config, public, status, running=running),
        asyncio.to_thread(read_service, home),
    )
    port = None
    if household is not None and household.head == public and config.relay.port:
        port = PortReading(config.relay.port, await listens(config.relay.port))
    return Readings(
        config_file=str(home.config_file),
        engine=config.inference.engine,
        bid_msat=config.customer.bid_msat,
        is_backup=is_copied_to(home.database, home.root),
        machine=read_machine(home),
        home=kept,
        has_key=secret is not None,
        node=node,
        database=database,
        in_household=household is not None,
        household_fault=household_fault,
        relays=asked,
        port=port,
        model=model,
        offer=read_offer(home, config, public, household, status),
        wallet=wallet,
        unknown_payments=read_unknown(home, status),
        paused="" if running else read_pause(home),
        code=read_code(),
        service=service,
    )


def _read_household(home: Home) -> tuple[Household | None, PylonError | None]:
    try:
        return HouseholdFile(home.folder).get(), None
    except PylonError as error:
        return None, error


def _public(npub: str) -> str:
    return nip19.parse_public_key(npub) if npub else ""
