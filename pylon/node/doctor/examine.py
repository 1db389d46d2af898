"""All checks of a home in one list, in the order in which one thing needs another."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pylon import config as settings
from pylon.errors import PylonError
from pylon.node.doctor import machine, offer, relays, serving
from pylon.node.doctor.asking import listens, read_relays
from pylon.node.doctor.finding import Finding, ok, wrong
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
from pylon.node.doctor.serving import ServiceReading
from pylon.node.home import Home
from pylon.node.household.members import HouseholdFile, relay_urls
from pylon.node.settings import check_settings
from pylon.nostr.bech32 import nip19
from pylon.store.look import is_copied_to


@dataclass(frozen=True, slots=True)
class Examination:
    """`serves` says whether a node is there that takes jobs."""

    findings: tuple[Finding, ...]
    serves: bool


async def examine() -> Examination:
    """Looks at the home that PYLON_HOME names. Never raises a `PylonError`: what it meets is a finding."""
    root = settings.home_directory()
    home = Home(root)
    try:
        config = settings.load(root / "config.toml")
        home = Home(root, config.network)
        check_settings(config)
    except PylonError as error:
        found = read_machine(home)
        # A node that runs has the settings of its start.
        status, fault = await read_node(home)
        running = status is not None or fault is not None
        few = [
            machine.judge_python(found, ""),
            machine.judge_disk(found),
            wrong("settings", str(error), error.hint, no_jobs=not running),
            serving.judge_node(status, ServiceReading(), fault=fault) if running else None,
        ]
        serves = status is not None and status["provider"] is not None
        return Examination(tuple(one for one in few if one is not None), serves)
    computer = read_machine(home)
    disk = machine.judge_disk(computer)
    kept, secret = read_home(home)
    status, fault = await read_node(home)
    running = status is not None or fault is not None
    public = secret.public if secret is not None else _public(status["npub"] if status else "")
    findings = [
        machine.judge_python(computer, config.inference.engine),
        disk,
        ok("settings", str(home.config_file)),
        machine.judge_permissions(kept),
        machine.judge_key(kept, running=running),
        machine.judge_binding(kept),
    ]
    books = None if running else machine.judge_database(await asyncio.to_thread(read_database, home))
    if books is not None:
        findings.append(books)
    try:
        household = HouseholdFile(home.folder).get()
    except PylonError as error:
        household = None
        findings.append(wrong("household", str(error), error.hint, no_jobs=True))
    planned = relay_urls(config.relays, household, public)
    asked, model, wallet, service = await asyncio.gather(
        read_relays(urls_of(status, planned), public, secret),
        read_model(home, config),
        read_wallet(home, config, public, status, running=running),
        asyncio.to_thread(read_service, home),
    )
    asked, system = relays.beside_own(asked, status), computer.system
    findings += [relays.judge_relay(read, system=system, key=secret is not None) for read in asked]
    if household is not None and household.head == public and config.relay.port:
        taken = await listens(config.relay.port)
        findings.append(relays.judge_port(config.relay.port, taken=taken, running=running, system=system))
    findings += [relays.judge_reach(asked, household=household is not None), relays.judge_clock(asked)]
    paused = "" if running else read_pause(home)
    node = serving.judge_node(status, service, paused, mend=_mend(home, computer, disk, books), fault=fault)
    serves = status is not None and status["provider"] is not None
    asked_for, code = read_offer(home, config, public, household, status), read_code()
    findings += [
        serving.judge_model(model, status),
        offer.judge_offer(asked_for, wallet),
        offer.judge_wallet(wallet, asked_for.pricing, config.customer.bid_msat),
        offer.judge_payments(read_unknown(home, status)),
        node,
        serving.judge_code(code, status, time.time()) if status is not None else None,
        serving.judge_calls(status) if status is not None else None,
        relays.judge_presence(asked, time.time(), _unannounced(status)) if serves else None,
        serving.judge_service(service),
    ]
    return Examination(tuple(one for one in findings if one is not None), serves)


def _mend(home: Home, computer: machine.MachineReading, disk: Finding, books: Finding | None) -> str:
    """What has to be done before a node can start here; empty if nothing."""
    if is_copied_to(home.database, home.root):
        return "Put a copy of this backup in the home's place, as docs/backup.md explains"
    if disk.no_jobs:
        return "Mount the disk for writing" if computer.read_only else "Free some disk space"
    return "Repair the database" if books is not None and books.no_jobs else ""


def _unannounced(status: Mapping[str, Any] | None) -> str:
    # One that began with an older Pylon does not say.
    return "" if status is None else str(status["provider"].get("unannounced", ""))


def _public(npub: str) -> str:
    return nip19.parse_public_key(npub) if npub else ""
