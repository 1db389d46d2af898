"""Installing, asking and removing, with a manager that writes down what it is told (a fake)."""

import asyncio
import os
import pwd
import signal
from pathlib import Path

import pytest

from pylon.cli.service import _refusal
from pylon.errors import SetupError, UsageError
from pylon.host.launchd import Launchd
from pylon.node import identity
from pylon.node.home import Home
from pylon.node.service import commands as service_commands
from pylon.node.service import installed as service
from pylon.node.service import place as service_place
from pylon.node.service.commands import Finished, run_command
from pylon.node.service.place import Place, notes
from pylon.node.service.place import place as place_of
from pylon.relay.server import RelayServer
from tests.node import programs


class FakeManager:
    """A fake of systemctl and launchctl: loaded or not, and slow to let go as launchd is."""

    def __init__(self, *, letting_go: int = 0) -> None:
        self.told: list[str] = []
        self.loaded = False
        self._letting_go, self._left = letting_go, -9
        self.refuse: dict[str, Finished] = {}

    def __call__(self, command) -> Finished:
        words = [word for word in command[1:] if not word.startswith("-")]
        if words[0] in ("print", "show"):
            self._left -= 1
            known = self.loaded or self._left >= 0
            text = "\tstate = running\n\tpid = 7\nLoadState=loaded\nMainPID=7" if known else "LoadState=not-found"
            return Finished(0 if known or command[0] == "systemctl" else 113, text)
        self.told.append(" ".join(words))
        if words[0] in self.refuse:
            return self.refuse[words[0]]
        if words[0] == "bootstrap" and self._letting_go > 0 and self._left > -4:
            # It answers that there is no such service some seconds before it takes a new one.
            self._left -= 1
            return Finished(5, "Bootstrap failed: 5: Input/output error")
        if words[0] in ("bootout", "disable"):
            self.loaded, self._left = False, self._letting_go
        if words[0] in ("bootstrap", "restart"):
            self.loaded = True
        return Finished(0, "")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    """A home of an ordinary user on a machine with systemd."""
    (tmp_path / "systemd").mkdir()
    ann = pwd.struct_passwd(("ann", "x", 1000, 1000, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(service_place, "_SYSTEMD", tmp_path / "systemd")
    # Whatever goes wrong in a test is not to reach the machine that it runs on.
    monkeypatch.setattr("pylon.host.systemd._SYSTEM_UNITS", tmp_path / "etc")
    monkeypatch.setattr("pylon.host.launchd._DAEMONS", tmp_path / "Library")
    monkeypatch.setattr(service_place, "_owner", lambda root: ann)
    monkeypatch.setattr(service_commands, "_POLL_S", 0.001)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr("pylon.node.home.private_folder", lambda folder: folder.mkdir(parents=True, exist_ok=True))
    made = Home(tmp_path / ".pylon")
    made.create()
    identity.create(made.identity_file)
    return made


def on_a_mac(monkeypatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")


def test_install_writes_the_unit_and_starts_it(home):
    run = FakeManager()
    place = place_of(home)
    service.install(home, place, run)
    assert place.manager.file().read_bytes() == place.manager.text()
    assert place.manager.file().stat().st_mode & 0o777 == 0o644
    assert run.told == ["daemon-reload", "enable pylon.service", "restart pylon.service"]
    found = service.status(home, run)
    assert (found.installed, found.state.pid, found.log) == (True, 7, str(home.logs / "pylon.log"))


def test_a_second_install_with_other_options_replaces_the_first(home):
    run = FakeManager()
    service.install(home, place_of(home), run)
    service.install(home, place_of(home, relay=True), run)
    assert b"--relay" in place_of(home).manager.file().read_bytes()


def test_launchd_is_waited_for_until_it_has_let_go(home, monkeypatch):
    on_a_mac(monkeypatch)
    run = FakeManager(letting_go=3)
    service.install(home, place_of(home), run)
    service.install(home, place_of(home, relay=True), run)
    target = "gui/1000/pylon.node"
    start = [f"enable {target}", f"bootstrap gui/1000 {home.root.parent}/Library/LaunchAgents/pylon.node.plist"]
    assert run.told[:4] == [*start, f"bootout {target}", start[0]]
    again = run.told[4:]
    assert len(again) > 1 and set(again) == {start[1]} and run.loaded


def test_a_service_that_still_finishes_its_jobs_when_launchd_answers_is_waited_for(home, monkeypatch):
    on_a_mac(monkeypatch)
    run = FakeManager(letting_go=3)
    service.install(home, place_of(home), run)

    def slow(command) -> Finished:
        done = run(command)
        told = command[1] == "bootout"
        return Finished(36, "Boot-out failed: 36: Operation now in progress") if told else done

    assert service.uninstall(home, slow) == place_of(home).manager.file()
    assert not run.loaded and not place_of(home).manager.file().exists()


def test_uninstall_removes_what_install_wrote_and_nothing_else(home):
    run = FakeManager()
    service.install(home, place_of(home), run)
    beside = place_of(home).manager.file().with_name("other.service")
    beside.write_text("another's")
    before = sorted(path for path in home.root.rglob("*"))
    gone = service.uninstall(home, run)
    assert gone is not None and not gone.exists() and beside.exists()
    assert run.told[-2:] == ["disable pylon.service", "daemon-reload"]
    assert sorted(path for path in home.root.rglob("*")) == before
    assert service.uninstall(home, run) is None


def test_a_file_that_pylon_did_not_write_is_left_alone(home):
    file = place_of(home).manager.file()
    file.parent.mkdir(parents=True)
    file.write_text("[Unit]\nDescription=mine\n")
    for work in (
        lambda run: service.install(home, place_of(home), run),
        lambda run: service.uninstall(home, run),
    ):
        run = FakeManager()
        with pytest.raises(SetupError, match="did not write it"):
            work(run)
        assert (file.read_text(), run.told) == ("[Unit]\nDescription=mine\n", [])


def test_the_service_of_another_home_is_neither_replaced_nor_removed(home):
    service.install(home, place_of(home), FakeManager())
    other = Home(home.root.with_name("other"))
    other.create()
    identity.create(other.identity_file)
    with pytest.raises(SetupError, match="another home") as refused:
        service.install(other, place_of(other), FakeManager())
    assert str(home.root) in refused.value.hint
    with pytest.raises(SetupError, match="another home"):
        service.uninstall(other, FakeManager())
    assert not service.status(other, FakeManager()).installed


def test_one_home_is_not_served_twice(home, tmp_path, monkeypatch):
    service.install(home, place_of(home), FakeManager())
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(SetupError, match="already a service"):
        service.install(home, place_of(home, system=True), FakeManager())


def test_a_key_under_a_passphrase_is_refused_because_nobody_types_it(home):
    home.identity_file.unlink()
    identity.create(home.identity_file, passphrase="correct horse battery")
    with pytest.raises(SetupError, match="passphrase") as refused:
        service.install(home, place_of(home), FakeManager())
    assert "identity restore" in refused.value.hint
    assert not place_of(home).manager.file().exists()


def test_a_home_without_a_key_is_refused(home):
    home.identity_file.unlink()
    with pytest.raises(SetupError, match="no key"):
        service.install(home, place_of(home), FakeManager())


def test_only_root_installs_for_the_machine_and_the_command_is_named(home):
    with pytest.raises(UsageError) as refused:
        service.install(home, place_of(home, system=True, relay=True), FakeManager())
    assert refused.value.hint.startswith(f"Run: sudo env PYLON_HOME={home.root} /")
    assert refused.value.hint.endswith("service install --system --relay")


def test_root_is_told_that_it_has_no_login(home, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(UsageError, match="root"):
        service.install(home, place_of(home), FakeManager())


def test_without_a_manager_the_error_says_what_else_there_is(home, monkeypatch, tmp_path):
    monkeypatch.setattr(service_place, "_SYSTEMD", tmp_path / "none")
    with pytest.raises(SetupError, match="neither launchd nor systemd"):
        place_of(home)


@pytest.mark.parametrize("fault", ["no key", "passphrase", "did not write it", "another home", "already a service"])
def test_a_dry_run_says_what_an_install_would_refuse_and_changes_nothing(home, monkeypatch, fault):
    wanted = place_of(home)
    assert _refusal(home, wanted) == []
    if fault in ("no key", "passphrase"):
        home.identity_file.unlink()
    if fault == "passphrase":
        identity.create(home.identity_file, passphrase="correct horse battery")
    if fault == "did not write it":
        wanted.manager.file().parent.mkdir(parents=True)
        wanted.manager.file().write_text("[Unit]\n")
    if fault == "another home":
        other = place_of(Home(home.root.with_name("other")))
        other.manager.file().parent.mkdir(parents=True)
        other.manager.file().write_bytes(other.manager.text())
    if fault == "already a service":
        service.install(home, wanted, FakeManager())
        monkeypatch.setattr(os, "getuid", lambda: 0)
        wanted = place_of(home, system=True)
    before = {path: path.lstat().st_mtime_ns for path in home.root.parent.rglob("*")}
    (told,) = _refusal(home, wanted)
    assert told.startswith("Installing it would fail: ") and fault in told
    assert {path: path.lstat().st_mtime_ns for path in home.root.parent.rglob("*")} == before
    with pytest.raises(SetupError, match=fault):
        service.install(home, wanted, FakeManager())


def test_the_command_that_is_proposed_is_one_that_works_for_who_asks(home, monkeypatch, tmp_path):
    assert service_place.install_command() == "pylon service install"
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert service_place.install_command() == "pylon service install --system"
    monkeypatch.setattr(service_place, "_SYSTEMD", tmp_path / "none")
    assert service_place.install_command() == ""


def test_what_the_manager_refuses_is_told_in_its_words(home):
    run = FakeManager()
    run.refuse["daemon-reload"] = Finished(1, "Failed to connect to bus: No medium found\n")
    with pytest.raises(SetupError, match="No medium found") as refused:
        service.install(home, place_of(home), run)
    assert "enable-linger" in refused.value.hint


def test_on_a_mac_restart_has_the_jobs_finished_and_starts_what_was_unloaded(home, monkeypatch):
    on_a_mac(monkeypatch)
    run = FakeManager(letting_go=3)
    with pytest.raises(SetupError, match="not a service"):
        service.restart(home, run)
    service.install(home, place_of(home), run)
    enabled, started = run.told
    service.restart(home, run)
    # launchd ends what it boots out by SIGTERM, and waits for it.
    assert run.told[2:4] == ["bootout gui/1000/pylon.node", enabled]
    assert set(run.told[4:]) == {started} and run.loaded
    run.loaded, run.told = False, []
    service.restart(home, run)
    assert run.told[0] == enabled and run.told[-1] == started and run.loaded


def test_systemd_restarts_what_runs_and_starts_what_was_unloaded(home):
    run = FakeManager()
    service.install(home, place_of(home), run)
    run.told = []
    service.restart(home, run)
    assert run.told == ["restart pylon.service"]
    run.loaded, run.told = False, []
    service.restart(home, run)
    assert run.told == ["daemon-reload", "enable pylon.service", "restart pylon.service"]


def test_the_owner_hears_what_a_service_does_not_get(home, monkeypatch):
    on_a_mac(monkeypatch)
    place = place_of(Home(home.root.parent / "Documents" / ".pylon"))
    assert isinstance(place.manager, Launchd)
    told = notes(place, {"PYLON_RELAYS": "[]", "PYLON_HOME": "x", "OTHER": "y"}, lingers=False)
    assert any(line.startswith("PYLON_RELAYS:") for line in told)
    assert any("Documents" in line for line in told)
    assert not any("linger" in line for line in told)


@pytest.mark.parametrize("lingers", [True, False])
def test_a_user_of_systemd_hears_of_lingering_unless_it_is_on(home, lingers):
    told = notes(place_of(home), {}, lingers=lingers)
    assert any("enable-linger ann" in line for line in told) is not lingers


def test_a_home_in_tmp_keeps_tmp_shared(home):
    place = place_of(Home(Path("/tmp/pylon-home-of-a-test")))
    assert not place.spec.private_tmp


def test_a_place_is_of_whoever_owns_the_home(home):
    place = place_of(home)
    assert isinstance(place, Place)
    assert (place.spec.user, place.spec.uid) == ("ann", 1000)
    assert Path(place.spec.program[0]).is_absolute()


def test_a_command_that_is_not_there_is_named():
    with pytest.raises(SetupError, match="no-such-manager"):
        run_command(("no-such-manager", "status"))
    assert run_command(("sh", "-c", "echo one; echo two >&2; exit 3")) == Finished(3, "one\ntwo\n")


async def test_what_the_service_runs_serves_and_ends_with_zero_on_sigterm(tmp_path):
    async with RelayServer() as relay:
        env = programs.environment(tmp_path / "home", relay.url)
        await programs.run("init", env=env)
        process = await programs.spawn("service", "run", env=env)
        try:
            for _ in range(600):
                status = (await programs.run("status", env=env))[1]
                if status["running"]:
                    break
                await asyncio.sleep(0.1)
            assert status["pid"] == process.pid and status["provider"] is not None
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 60) == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PYLON_INFERENCE__SLOTS": "none"}, "PYLON_INFERENCE__SLOTS"),
        ({"PYLON_INFERENCE__ENGINE": "mlx"}, "not/here"),
    ],
)
async def test_why_it_could_not_start_stands_in_the_log(tmp_path, settings, said):
    env = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    await programs.run("init", env=env)
    process = await programs.spawn(
        "service",
        "run",
        env=env | settings | {"PYLON_INFERENCE__MODEL": "not/here"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await asyncio.wait_for(process.wait(), 60) != 0
    (line,) = [one for one in (tmp_path / "home/logs/pylon.log").read_text().splitlines() if "the node ended" in one]
    assert said in line
