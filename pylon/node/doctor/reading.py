"""Reads what the checks judge: files, the running node, the wallet. Changes nothing and takes no lock."""

import os
import platform
import pwd
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import httpx

import pylon
from pylon import __version__
from pylon.clock import SystemClock
from pylon.errors import PylonError, UnreachableError
from pylon.host import hardware, memory
from pylon.inference.models.weights import weight_files
from pylon.money.msat import sats_text
from pylon.money.network import Network
from pylon.node import identity
from pylon.node.binding import FILE as MARK
from pylon.node.binding import is_this_machine
from pylon.node.calls.protocol import result_of
from pylon.node.doctor.machine import DatabaseReading, HomeReading, MachineReading
from pylon.node.doctor.offer import OfferReading, WalletReading
from pylon.node.doctor.serving import CodeReading, ModelReading, ServiceReading
from pylon.node.home import Home
from pylon.node.household.members import Household
from pylon.node.open_home import SCHEMAS
from pylon.node.service import installed as service
from pylon.node.service.commands import run_command
from pylon.node.service.place import install_command
from pylon.node.session import running_node
from pylon.node.settings import engine_spec, terms, unnamed_model
from pylon.node.wallet.connection import LINK_FILE, load_link, open_wallet
from pylon.node.wallet.live import is_allowed
from pylon.nostr.keys import SecretKey
from pylon.provider.pauses import PAUSED
from pylon.sections import Config, ProviderSection
from pylon.store.look import look_into, opened_to_read

_SERVER_S = 5.0
# Checking a gigabyte of pages takes some seconds, and a person is waiting.
_PAGES_S = 10.0


def read_machine(home: Home) -> MachineReading:
    place = home.root if home.root.exists() else Path.home()
    return MachineReading(
        platform.system(),
        platform.machine(),
        hardware.is_translated(),
        platform.python_version(),
        shutil.disk_usage(place).free,
        bool(os.statvfs(place).f_flag & os.ST_RDONLY),
    )


def read_home(home: Home) -> tuple[HomeReading, SecretKey | None]:
    """The home, and its key if that can be opened."""
    loose, foreign = [], []
    user = os.getuid()
    owner = home.root.stat().st_uid if home.root.exists() else user
    for path in (home.root, home.folder, home.identity_file, home.folder / LINK_FILE, home.database):
        try:
            found = path.stat()
        except OSError:
            continue
        if found.st_mode & 0o077:
            loose.append(str(path))
        if found.st_uid != owner:
            foreign.append(str(path))
    secret, fault, hint, locked = None, "", "", False
    try:
        secret = identity.load(home.identity_file)
    except PylonError as error:
        fault, hint = str(error), error.hint
        locked = _is_locked(home)
    same = is_this_machine(home.folder)
    reading = HomeReading(
        str(home.root),
        tuple(loose),
        tuple(foreign),
        locked,
        fault,
        hint,
        same,
        str(home.folder),
        str(home.folder / MARK),
        _user(owner),
        _user(user),
        user == 0,
    )
    return reading, secret


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        # A container may run under a user id without a name.
        return str(uid)


def _is_locked(home: Home) -> bool:
    try:
        return identity.is_protected(home.identity_file) and not os.environ.get(identity.PASSPHRASE_VARIABLE)
    except (PylonError, OSError):
        return False


def read_database(home: Home) -> DatabaseReading:
    """The database of a home whose node does not run."""
    path = str(home.database)
    try:
        found = look_into(home.database, SCHEMAS, label=home.network, within_s=_PAGES_S)
    except PylonError as error:
        return DatabaseReading(path, fault=str(error), hint=error.hint)
    return DatabaseReading(path) if found is None else DatabaseReading(path, found.size, found.whole, found.copied_at)


async def read_node(home: Home) -> tuple[dict[str, Any] | None, PylonError | None]:
    """The status of the running node, None if none runs; and the error if one runs but failed to report it."""
    try:
        return await result_of(running_node(home), "status"), None
    except UnreachableError:
        return None, None
    except PylonError as error:
        return None, error


def read_pause(home: Home) -> str:
    """Why the next start will be paused, by the database of a node that has ended; empty if it will not be."""
    row = _first_row(home, "SELECT value FROM provider_setting WHERE name = ?", PAUSED)
    return str(row[0]) if row else ""


def read_unknown(home: Home, status: Mapping[str, Any] | None) -> int:
    """How many payments are of unknown outcome, by the running node's `status`, or else by its database."""
    if status is not None:
        return int((status["spending"] or {"unknown": 0})["unknown"])
    # A payment that was being sent when the node ended has an unknown outcome too.
    row = _first_row(home, "SELECT count(*) FROM money_payment WHERE state IN ('sending', 'unknown')")
    return int(row[0]) if row else 0


def _first_row(home: Home, sql: str, *values: str) -> tuple[Any, ...] | None:
    """The first row of a query to the database of a node that has ended; None without one, or if it fails."""
    if not home.database.exists():
        return None
    try:
        with closing(opened_to_read(home.database)) as database:
            row: tuple[Any, ...] | None = database.execute(sql, values).fetchone()
    except sqlite3.Error:
        # The database check reports why.
        return None
    return row


async def read_model(home: Home, config: Config) -> ModelReading:
    section = config.inference
    wished = int(section.memory_gb * 1e9)
    try:
        spec = engine_spec(home, config)
        place = spec.model_dir or spec.model_file
        weights = sum(file.stat().st_size for file in weight_files(place)) if place is not None else 0
    except PylonError as error:
        return ModelReading(section.engine, section.model, str(error), error.hint)
    fault = await _server_fault(section.openai_url) if section.engine == "openai" else ""
    hint = "Start that server, or correct `inference.openai_url`." if fault else ""
    free = memory.free_bytes() if place is not None else 0
    unnamed = unnamed_model(config)
    return ModelReading(section.engine, spec.model, fault, hint, weights, free, wished, unnamed=unnamed)


async def _server_fault(url: str) -> str:
    try:
        # Without the proxies of the environment, as the engine asks it.
        async with httpx.AsyncClient(timeout=_SERVER_S, trust_env=False) as client:
            # Any answer will do, even a refusal: this request carries no key.
            await client.get(f"{url.rstrip('/')}/models")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"the server at {url} does not answer ({type(error).__name__})"
    return ""


async def read_wallet(
    home: Home, config: Config, public: str, status: Mapping[str, Any] | None, *, running: bool
) -> WalletReading:
    """The wallet, asked through the running node, which has it open, or else directly."""
    try:
        link = load_link(home)
        if link is None:
            return WalletReading(connected=False)
        network = Network(config.network)
        if status is not None and status["spending"] is None:
            return WalletReading(connected=True, unused=True)
        if running:
            found = await result_of(running_node(home), "wallet-balance")
            balance = found["balance_msat"]
        else:
            async with AsyncExitStack() as stack:
                allowed = bool(public) and is_allowed(home, public)
                also = config.wallet.also_called
                wallet = await open_wallet(
                    link, network, SystemClock(), stack, live=lambda: allowed, also_called=also
                )
                await wallet.info()
                balance = int(await wallet.balance())
    except PylonError as error:
        return WalletReading(connected=True, fault=str(error), hint=error.hint)
    return WalletReading(
        connected=True, said=f"answers on {network.value}, with a balance of {sats_text(balance, network.unit)}"
    )


def read_offer(
    home: Home, config: Config, public: str, household: Household | None, status: Mapping[str, Any] | None
) -> OfferReading:
    usual = {name: field.default for name, field in ProviderSection.model_fields.items()}
    wished = terms(config.provider)
    try:
        allowed = bool(public) and is_allowed(home, public)
    except PylonError:
        allowed = False
    return OfferReading(
        wished,
        any(wished[name] != usual[name] for name in wished if name != "pricing"),
        household is not None,
        config.household.strangers,
        Network(config.network).is_live and not allowed,
        # A node that was started with an older Pylon does not say.
        None if status is None else status.get("price"),
    )


def read_code() -> CodeReading:
    """The code of this command."""
    files = Path(pylon.__file__).parent.rglob("*.py")
    return CodeReading(__version__, max(file.stat().st_mtime for file in files))


def read_service(home: Home) -> ServiceReading:
    command = install_command()
    if not command:
        return ServiceReading()
    try:
        found = service.status(home, run_command)
    except PylonError as error:
        return ServiceReading(install=command, fault=str(error))
    state = found.state
    log = f"{found.log}{f', or {found.log_hint}' if found.log_hint else ''}"
    return ServiceReading(found.manager, found.installed, state.pid, state.running, state.last_exit, log, command)


def urls_of(status: Mapping[str, Any] | None, planned: list[str]) -> list[str]:
    """The relays of the running node, or else those that a node would have."""
    return planned if status is None else [relay["url"] for relay in status["relays"]]
