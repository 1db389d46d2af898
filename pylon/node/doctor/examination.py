"""The findings about a home, from all that was read of it. Values in, findings out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylon.errors import PylonError
from pylon.node.doctor import machine, offer, relays, serving
from pylon.node.doctor.finding import Finding, ok, wrong
from pylon.node.doctor.machine import DatabaseReading, HomeReading, MachineReading
from pylon.node.doctor.offer import OfferReading, WalletReading
from pylon.node.doctor.relays import RelayReading
from pylon.node.doctor.serving import CodeReading, ModelReading, ServiceReading


@dataclass(frozen=True, slots=True)
class Examination:
    """The findings, in the order in which one thing needs another. `serves`: a node runs that takes jobs."""

    findings: tuple[Finding, ...]
    serves: bool


@dataclass(frozen=True, slots=True)
class NodeReading:
    """The node that runs: its `status`, or the `fault` with which it failed to report it. Both None: none runs."""

    status: Mapping[str, Any] | None
    fault: PylonError | None

    @property
    def running(self) -> bool:
        return self.status is not None or self.fault is not None

    @property
    def serves(self) -> bool:
        return self.status is not None and self.status["provider"] is not None


@dataclass(frozen=True, slots=True)
class PortReading:
    """The port of the household's relay on this machine, and whether something listens there."""

    port: int
    taken: bool


@dataclass(frozen=True, slots=True)
class Readings:
    """All that was read of a home whose settings are valid.

    `database` is None while a node runs, which has it open. `household_fault` says why the household cannot be read.
    `port` is None where this machine is to run no household's relay. `paused` is why the next start will be paused.
    `unknown_payments` counts those of unknown outcome. `bid_msat` is the most that this customer pays for a job.
    `is_backup`: the home is a backup itself.
    """

    config_file: str
    engine: str
    bid_msat: int
    is_backup: bool
    machine: MachineReading
    home: HomeReading
    has_key: bool
    node: NodeReading
    database: DatabaseReading | None
    in_household: bool
    household_fault: PylonError | None
    relays: Sequence[RelayReading]
    port: PortReading | None
    model: ModelReading
    offer: OfferReading
    wallet: WalletReading
    unknown_payments: int
    paused: str
    code: CodeReading
    service: ServiceReading


def judge_settings(fault: PylonError, computer: MachineReading, node: NodeReading) -> Examination:
    """The little that can be said of a home whose settings are invalid, as `fault` says."""
    findings = (
        machine.judge_python(computer, ""),
        machine.judge_disk(computer),
        # A node that runs has the settings of its start.
        wrong("settings", str(fault), fault.hint, no_jobs=not node.running),
        serving.judge_node(node.status, ServiceReading(), fault=node.fault) if node.running else None,
    )
    return _examination(findings, node)


def judge_all(read: Readings, now: float) -> Examination:
    """All findings. `now` is in Unix seconds."""
    node, system = read.node, read.machine.system
    seen = relays.beside_own(read.relays, node.status)
    disk = machine.judge_disk(read.machine)
    database = None if read.database is None else machine.judge_database(read.database)
    mend = _mend(read, disk, database)
    port = read.port
    findings = (
        machine.judge_python(read.machine, read.engine),
        disk,
        ok("settings", read.config_file),
        machine.judge_permissions(read.home),
        machine.judge_key(read.home, running=node.running),
        machine.judge_binding(read.home),
        database,
        _judge_household(read.household_fault),
        *(relays.judge_relay(one, system=system, key=read.has_key) for one in seen),
        None if port is None else relays.judge_port(port.port, taken=port.taken, running=node.running, system=system),
        relays.judge_reach(seen, household=read.in_household),
        relays.judge_clock(seen),
        serving.judge_model(read.model, node.status),
        offer.judge_offer(read.offer, read.wallet),
        offer.judge_wallet(read.wallet, read.offer.pricing, read.bid_msat),
        offer.judge_payments(read.unknown_payments),
        serving.judge_node(node.status, read.service, read.paused, mend=mend, fault=node.fault),
        serving.judge_code(read.code, node.status, now) if node.status is not None else None,
        serving.judge_calls(node.status) if node.status is not None else None,
        relays.judge_presence(seen, now, _unannounced(node.status)) if node.serves else None,
        serving.judge_service(read.service),
    )
    return _examination(findings, node)


def _examination(findings: Sequence[Finding | None], node: NodeReading) -> Examination:
    return Examination(tuple(one for one in findings if one is not None), node.serves)


def _judge_household(fault: PylonError | None) -> Finding | None:
    return None if fault is None else wrong("household", str(fault), fault.hint, no_jobs=True)


def _mend(read: Readings, disk: Finding, database: Finding | None) -> str:
    """What has to be done before a node can start here; empty if nothing."""
    if read.is_backup:
        return "Put a copy of this backup in the home's place, as docs/backup.md explains"
    if disk.no_jobs:
        return "Mount the disk for writing" if read.machine.read_only else "Free some disk space"
    return "Repair the database" if database is not None and database.no_jobs else ""


def _unannounced(status: Mapping[str, Any] | None) -> str:
    # A node that was started with an older Pylon does not say.
    return "" if status is None else str(status["provider"].get("unannounced", ""))
