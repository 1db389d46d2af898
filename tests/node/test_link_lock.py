"""One wallet link, one home: the second that opens it is told which one has it."""

import os
import pwd
import subprocess
import sys

import pytest

from pylon import config as settings
from pylon.errors import LinkBusyError
from pylon.money.nwc.uri import NwcUri
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.service.place import place as place_of
from pylon.node.wallet import connection, link_lock
from pylon.node.wallet.link_lock import LinkLock
from pylon.nostr.keys import SecretKey
from tests.node.homes import move_in


@pytest.fixture
def locks(monkeypatch, tmp_path):
    monkeypatch.setattr(link_lock, "locks_folder", lambda: tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def link():
    return NwcUri(SecretKey.generate().public, ("ws://127.0.0.1:1",), SecretKey.generate())


def core_of(home: Home) -> Core:
    return Core(home, settings.parse({"network": home.network, "relays": ["ws://127.0.0.1:1"]}), serve=False)


async def test_two_homes_do_not_open_one_wallet_link(locks, link, tmp_path):
    first, second = (move_in(tmp_path / name, link.reveal()) for name in ("first", "second"))
    async with core_of(first):
        with pytest.raises(LinkBusyError, match=str(first.folder)) as caught:
            async with core_of(second):
                pass
        assert "wallet connect" in caught.value.hint
        assert link.secret.secret_bytes.hex() not in str(caught.value)
    async with core_of(second):
        pass
    assert list(locks.iterdir()) == []


async def test_links_of_their_own_to_one_wallet_are_opened_side_by_side(locks, link, tmp_path):
    other = NwcUri(link.wallet, link.relays, SecretKey.generate())
    first, second = move_in(tmp_path / "first", link.reveal()), move_in(tmp_path / "second", other.reveal())
    async with core_of(first), core_of(second):
        assert len(list(locks.iterdir())) == 2


def test_the_end_of_a_process_frees_its_link_however_it_ends(locks, link, tmp_path):
    program = (
        "import sys, pathlib\n"
        "from pylon.money.nwc.uri import parse_uri\n"
        "from pylon.node.wallet import link_lock\n"
        "from pylon.node.home import Home\n"
        "link_lock.locks_folder = lambda: pathlib.Path(sys.argv[1])\n"
        "link_lock.LinkLock(Home(pathlib.Path('/first')), parse_uri(sys.stdin.readline())).acquire()\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(locks)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    holder.stdin.write(link.reveal() + "\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "held\n"
    lock = LinkLock(Home(tmp_path / "second"), link)
    with pytest.raises(LinkBusyError, match="/first/play"):
        lock.acquire()
    holder.kill()
    holder.wait()
    lock.acquire()
    lock.release()


def user(monkeypatch, own) -> None:
    found = pwd.struct_passwd(("ann", "x", os.getuid(), os.getgid(), "", str(own), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: found)


def test_a_login_of_another_kind_finds_the_same_lock(tmp_path, monkeypatch):
    user(monkeypatch, tmp_path)
    found = set()
    for way in ("desktop", "ssh", "service"):
        monkeypatch.setenv("TMPDIR", str(tmp_path / way))
        monkeypatch.setenv("XDG_RUNTIME_DIR", f"/run/{way}")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / way))
        monkeypatch.setenv("HOME", str(tmp_path / way))
        found.add(link_lock.locks_folder())
    assert found == {tmp_path / ".local/state/pylon"}


def test_a_service_that_may_not_write_to_its_users_folder_finds_the_lock_as_well(tmp_path, monkeypatch):
    user(monkeypatch, tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert link_lock.locks_folder() == link_lock.Path(f"/tmp/pylon-{os.getuid()}")
    made = link_lock.locks_in(tmp_path)
    made.mkdir(parents=True)
    assert link_lock.locks_folder() == made


def test_a_user_without_a_folder_or_a_name_has_a_place_for_locks_too(tmp_path, monkeypatch):
    user(monkeypatch, tmp_path / "none")
    assert str(link_lock.locks_folder()).startswith("/tmp/pylon-")

    def nobody(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert str(link_lock.locks_folder()).startswith("/tmp/pylon-")


def test_the_folder_is_there_when_a_wallet_is_connected_and_a_service_may_write_to_it(tmp_path, monkeypatch, link):
    user(monkeypatch, tmp_path)
    (tmp_path / "booted").mkdir()
    monkeypatch.setattr("pylon.node.service.place._SYSTEMD", tmp_path / "booted")
    monkeypatch.setattr("sys.platform", "linux")
    home = move_in(tmp_path / "home", link.reveal())
    connection.save_link(home, link)
    folder = link_lock.locks_folder()
    assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700
    unit = place_of(home, system=True).manager.text().decode()
    (written,) = [line for line in unit.splitlines() if line.startswith(f"ReadWritePaths={home.root}")]
    assert f"-{folder}" in written
