"""One wallet link, one home: the second that opens it is told which one has it."""

import subprocess
import sys

import pytest

from pylon import config as settings
from pylon.errors import LinkBusyError
from pylon.money.nwc_uri import NwcUri
from pylon.node import link_lock
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.link_lock import LinkLock
from pylon.nostr.keys import SecretKey
from tests.node.homes import move_in


@pytest.fixture
def locks(monkeypatch, tmp_path):
    monkeypatch.setattr(link_lock, "_folder", lambda: tmp_path / "run")
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
        "from pylon.money.nwc_uri import parse_uri\n"
        "from pylon.node import link_lock\n"
        "from pylon.node.home import Home\n"
        "link_lock._folder = lambda: pathlib.Path(sys.argv[1])\n"
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
