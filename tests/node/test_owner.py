"""A node that keeps its owner's rules: what the machine says is a fake's, all else is real."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pylon import config as settings
from pylon.clock import SystemClock
from pylon.errors import SetupError, UsageError
from pylon.host.awake import Awake
from pylon.host.readings import Heat, MemoryPressure, Power
from pylon.jobs.codes import ErrorCode
from pylon.jobs.heartbeat import parse_heartbeat
from pylon.jobs.kinds import HEARTBEAT
from pylon.node import identity
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.owner import OwnerWatch
from pylon.node.settings import owner_rules
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from pylon.sections import OwnerSection
from tests.customer import Customer
from tests.node import programs
from tests.node.held import hold_answers
from tests.waiting import until

ON_BATTERY, ON_MAINS = Power(True, 80), Power(False, 80)


class FakeMachine:
    """A fake laptop, which says what the test has it say."""

    def __init__(self, power: Power | None = ON_MAINS, input_age_s: float | None = 1e6) -> None:
        self.now = {"power": power, "input_age_s": input_age_s}
        self.asked = 0

    def input_age_s(self) -> Any:
        self.asked += 1
        return self.now["input_age_s"]

    def power(self) -> Any:
        return self.now["power"]

    def heat(self) -> Heat:
        return Heat.NOMINAL

    def memory(self) -> MemoryPressure:
        return MemoryPressure.NORMAL


class Ahead(SystemClock):
    """This machine's clocks, for which time can pass: rules end after half a minute. `set_by` is the wall's alone."""

    ahead = set_by = 0.0

    def wall(self) -> float:  # type: ignore[override]
        return SystemClock.wall() + self.ahead + self.set_by

    def monotonic(self) -> float:  # type: ignore[override]
        return SystemClock.monotonic() + self.ahead

    def boot(self) -> float:  # type: ignore[override]
        return SystemClock.boot() + self.ahead


class Node:
    """A core that serves, its machine and its clock."""

    def __init__(self, core: Core, machine: FakeMachine, clock: Ahead) -> None:
        self.core, self.machine, self.clock = core, machine, clock
        self.public = core.opened.secret.public
        self.asked = RemoteNode(core.home.socket)

    async def becomes(self, **readings: Any) -> None:
        self.machine.now |= readings
        await self.core.serving.watch.look()

    async def pass_time(self, seconds: float) -> None:
        self.clock.ahead += seconds
        await self.core.serving.watch.look()

    async def status(self) -> dict[str, Any]:
        return await result_of(self.asked, "status")


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer() as server:
        yield server


@pytest.fixture
def secret() -> SecretKey:
    return SecretKey.generate()


@pytest.fixture
async def pool(relay, secret) -> AsyncIterator[RelayPool]:
    # Sealed answers are shown to whoever proves to be their reader.
    pool = RelayPool([relay.url], secret=secret)
    pool.start()
    yield pool
    await pool.close()


@pytest.fixture
async def customer(pool, secret) -> AsyncIterator[Customer]:
    customer = Customer(pool, secret)
    yield customer
    await customer.close()


@asynccontextmanager
async def node(root: Path, relay: RelayServer, machine: FakeMachine, **changes: Any) -> AsyncIterator[Node]:
    home = Home(root, "play")
    home.create()
    if not home.identity_file.exists():
        identity.create(home.identity_file)
    raw = {
        "relays": [relay.url],
        "inference": {"engine": "instant", "instant_delay_s": 0.2},
        "owner": {"say_why": True, **changes},
    }
    clock = Ahead()
    async with Core(home, settings.parse(raw), serve=True, machine=machine, clock=clock) as core:
        yield Node(core, machine, clock)


async def beats(pool: RelayPool, key: str) -> list[str]:
    """The reasons in its heartbeats, of which a relay keeps the last."""
    events = await pool.query((Filter(kinds=frozenset({HEARTBEAT}), authors=frozenset({key})),))
    return [parse_heartbeat(event).paused for event in events]


async def said(pool: RelayPool, key: str, reason: str) -> None:
    async with asyncio.timeout(20):
        while await beats(pool, key) != [reason]:
            await asyncio.sleep(0.1)


async def test_a_laptop_on_battery_refuses_with_the_reason_and_serves_again_on_mains(tmp_path, relay, pool, customer):
    async with node(tmp_path / "home", relay, FakeMachine()) as serving:
        assert await customer.result(await customer.ask(serving.public, customer.job()))

        await serving.becomes(power=ON_BATTERY)
        refusal = await customer.refusal(await customer.ask(serving.public, customer.job()))
        assert (refusal.code, refusal.text) == (ErrorCode.PAUSED, "battery")
        await said(pool, serving.public, "battery")
        status = await serving.status()
        assert status["provider"]["paused"] == "battery"
        rule = next(rule for rule in status["owner"]["rules"] if rule["holds"])
        assert (rule["name"], rule["reading"], rule["ends"]) == ("battery", "on battery, 80 %", "mains power")
        assert abs(rule["began_at"] - SystemClock().wall()) < 60
        env = programs.environment(tmp_path / "home", relay.url)
        shown = await programs.spawn("status", env=env)
        out = " ".join((await asyncio.wait_for(shown.communicate(), 60))[0].decode().split())
        assert "paused (battery): mains power ends it" in out
        assert "in use: last input 278 h ago" in out and "heat: nominal (0 of 4)" in out
        assert await serving.core.opened.journal.setting("paused") == "", "a restart asks the machine anew"

        await serving.becomes(power=ON_MAINS)
        assert (await serving.status())["provider"]["paused"] == "battery", "it might be a plug that is loose"
        await serving.pass_time(30)
        assert await customer.result(await customer.ask(serving.public, customer.job()))
        await said(pool, serving.public, "")


async def test_what_runs_when_a_rule_begins_is_finished(tmp_path, relay, customer, monkeypatch):
    let = hold_answers(monkeypatch)
    async with node(tmp_path / "home", relay, FakeMachine()) as serving:
        taken = await customer.ask(serving.public, customer.job())
        await until(lambda: serving.core.serving.provider.busy)
        await serving.becomes(input_age_s=0.0)
        assert (await customer.refusal(await customer.ask(serving.public, customer.job()))).text == "in use"
        assert serving.core.serving.provider.busy
        let.set()
        assert await customer.result(taken)


async def test_a_node_that_starts_on_battery_is_never_seen_free(tmp_path, relay, pool):
    heartbeats = Filter(kinds=frozenset({HEARTBEAT}))
    subscription = pool.subscribe(lambda: (heartbeats,), name="beats")
    seen: list[str] = []

    async def listen() -> None:
        async for received in subscription:
            seen.extend([parse_heartbeat(received.event).paused])

    listening = asyncio.create_task(listen())
    async with node(tmp_path / "home", relay, FakeMachine(ON_BATTERY)) as serving:
        await until(lambda: seen)
        assert serving.core.serving.provider.paused == "battery"
    listening.cancel()
    await subscription.close()
    assert set(seen) <= {"battery", "stopping"}


async def test_a_pause_by_hand_and_a_rules_pause_do_not_end_each_other(tmp_path, relay):
    async with node(tmp_path / "home", relay, FakeMachine(ON_BATTERY)) as serving:
        assert (await result_of(serving.asked, "pause"))["paused"] == "owner"
        assert (await serving.status())["provider"]["paused"] == "owner"
        await serving.becomes(power=ON_MAINS)
        await serving.pass_time(60)
        assert (await serving.status())["provider"]["paused"] == "owner"
        await serving.becomes(power=ON_BATTERY)
        assert (await result_of(serving.asked, "resume"))["paused"] == "battery"
    async with node(tmp_path / "home", relay, FakeMachine(ON_MAINS)) as again:
        assert (await again.status())["provider"]["paused"] == ""


async def test_an_owner_who_says_so_has_it_serve_for_a_while(tmp_path, relay, customer):
    async with node(tmp_path / "home", relay, FakeMachine(ON_BATTERY, input_age_s=0.0)) as serving:
        assert (await result_of(serving.asked, "resume"))["paused"] == "in use, battery"
        answer = await result_of(serving.asked, "resume", {"for_s": 3600})
        assert answer["paused"] == ""
        assert answer["owner"]["waiver_ends_at"] == pytest.approx(SystemClock().wall() + 3600, abs=60)
        await serving.pass_time(10)
        assert await customer.result(await customer.ask(serving.public, customer.job()))
        assert (await result_of(serving.asked, "resume", {"for_s": 0}))["paused"] == "in use, battery"
        with pytest.raises(UsageError, match="for_s must be a number"):
            await result_of(serving.asked, "resume", {"for_s": "2h"})


async def test_a_clock_that_is_set_back_makes_a_word_no_longer_and_a_node_no_younger(tmp_path, relay):
    async with node(tmp_path / "home", relay, FakeMachine(ON_BATTERY)) as serving:
        await result_of(serving.asked, "resume", {"for_s": 3600})
        serving.clock.set_by = -10_800
        await serving.pass_time(1_800)
        status = await serving.status()
        assert status["uptime_s"] >= 1_800
        assert status["owner"]["waiver_ends_at"] == pytest.approx(serving.clock.wall() + 1_800, abs=60)
        assert status["provider"]["paused"] == ""
        await serving.pass_time(1_800)
        assert (await serving.status())["provider"]["paused"] == "battery"


async def test_no_seconds_end_what_was_said_for_a_while_and_nothing_else(tmp_path, relay):
    async with node(tmp_path / "home", relay, FakeMachine(ON_BATTERY)) as serving:
        await result_of(serving.asked, "resume", {"for_s": 3600})
        await result_of(serving.asked, "pause")
        with pytest.raises(UsageError, match="paused by hand") as refused:
            await result_of(serving.asked, "resume", {"for_s": 0})
        assert "`pylon resume`" in refused.value.hint
        status = await serving.status()
        assert status["provider"]["paused"] == "owner" and status["owner"]["waiver_ends_at"] is not None
        await result_of(serving.asked, "resume")
        await result_of(serving.asked, "drain")
        assert (await result_of(serving.asked, "resume", {"for_s": 0}))["paused"] == "battery"
        assert (await serving.status())["provider"]["draining"]


async def test_a_word_for_ever_is_refused_and_ends_no_pause(tmp_path, relay):
    async with node(tmp_path / "home", relay, FakeMachine(ON_BATTERY)) as serving:
        await result_of(serving.asked, "pause")
        with pytest.raises(UsageError, match="at most 30 days"):
            await result_of(serving.asked, "resume", {"for_s": 30 * 86_400 + 1})
        assert (await serving.status())["provider"]["paused"] == "owner"


async def test_times_are_told_by_the_nodes_own_clock(tmp_path, relay):
    async with node(tmp_path / "home", relay, FakeMachine(ON_BATTERY)) as serving:
        owner = (await serving.status())["owner"]
        (held,) = [rule for rule in owner["rules"] if rule["holds"]]
        told = datetime.fromisoformat(held["began_local"])
        assert int(held["began_at"]) == told.timestamp()
        assert told.utcoffset() == datetime.fromtimestamp(held["began_at"]).astimezone().utcoffset()
        assert {rule["began_local"] for rule in owner["rules"] if not rule["holds"]} == {None}
        owner = (await result_of(serving.asked, "resume", {"for_s": 86_400}))["owner"]
        assert datetime.fromisoformat(owner["waiver_ends_local"]).timestamp() == int(owner["waiver_ends_at"])
        assert [rule["yielding"] for rule in owner["rules"]] == [True, True, False, False]


async def test_unless_its_owner_wants_a_node_does_not_say_why_it_is_paused(tmp_path, relay, pool, customer):
    machine = FakeMachine(input_age_s=0.0)
    async with node(tmp_path / "home", relay, machine, say_why=OwnerSection().say_why) as serving:
        refusal = await customer.refusal(await customer.ask(serving.public, customer.job()))
        assert (refusal.code, refusal.text) == (ErrorCode.PAUSED, "owner")
        await said(pool, serving.public, "owner")
        assert (await serving.status())["provider"]["paused"] == "in use"


async def test_without_rules_nothing_is_read_and_everything_served(tmp_path, relay, customer):
    machine = FakeMachine(ON_BATTERY, input_age_s=0.0)
    async with node(tmp_path / "home", relay, machine, rules=False) as serving:
        assert await customer.result(await customer.ask(serving.public, customer.job()))
        assert (await serving.status())["owner"]["rules"] == [] and machine.asked == 0


class FakeProvider:
    """A fake of a provider, which keeps what it is told."""

    def __init__(self) -> None:
        self.held: list[tuple[str, str]] = []
        self.busy = False

    def hold(self, reason: str, told: str) -> None:
        self.held.append((reason, told))


class FakeAwake(Awake):
    """A fake that starts no program."""

    def __init__(self) -> None:
        super().__init__(())
        self.told: list[bool] = []

    async def hold(self) -> None:
        self.told.append(True)

    async def release(self) -> None:
        self.told.append(False)


async def test_the_machine_is_read_again_and_again_and_kept_awake_while_it_works():
    machine, provider, awake = FakeMachine(), FakeProvider(), FakeAwake()
    config = settings.parse({})
    rules = owner_rules(config, attended=False)
    watch = OwnerWatch(machine, rules, provider, config.owner, Ahead(), awake, every_s=0.01)
    await watch.start()
    try:
        assert provider.held == [("", "")]
        machine.now["power"] = ON_BATTERY
        await until(lambda: provider.held[-1] == ("battery", "owner"))
        assert not any(awake.told)
        provider.busy = True
        await until(lambda: awake.told[-1:] == [True])
        provider.busy = False
        await until(lambda: awake.told[-1:] == [False])
        provider.busy = True
        await until(lambda: awake.told[-1:] == [True])
    finally:
        await watch.close()
    assert awake.told[-1] is False, "it ends with the node"


def names(**changes: Any) -> list[str]:
    config = settings.parse({"owner": {"say_why": True, **changes}})
    return [rule.name for rule in owner_rules(config, attended=False)._rules]


def test_each_setting_brings_its_rule_or_leaves_it_out():
    assert names() == ["in use", "battery", "heat", "memory"]
    assert names(schedule=["daily 22:00-06:00"])[-1] == "schedule"
    assert names(in_use_minutes=0, on_battery=True, min_charge_percent=0, heat="off", memory="off") == []
    assert names(on_battery=True) == ["in use", "battery", "heat", "memory"]
    assert names(rules=False, schedule=["daily 22:00-06:00"]) == []
    assert OwnerSection().keep_awake


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("mon 09:00-10:00", 'schedule = ["mon 09:00-10:00"]'),
        (9, 'schedule = ["mon-fri 22:00-06:30"]'),
        ([9], 'schedule = ["mon-fri 22:00-06:30"]'),
    ],
)
def test_hours_that_are_no_list_are_refused_with_the_list(written, shown):
    with pytest.raises(SetupError) as refused:
        settings.parse({"owner": {"schedule": written}})
    assert shown in str(refused.value) and "Input" not in str(refused.value)


@pytest.mark.parametrize("rules", [True, False])
def test_hours_that_are_none_are_named_with_their_setting(rules):
    config = settings.parse({"owner": {"rules": rules, "schedule": ["weekends"]}})
    with pytest.raises(SetupError, match=r"owner\.schedule: 'weekends' is not a time span"):
        owner_rules(config, attended=False)
