"""`pylon backup`: what is in it, and that nothing half-made is ever taken for one."""

import fcntl
import os
import shutil
import stat

import pytest

from pylon import config as settings
from pylon.errors import PylonError, SetupError
from pylon.money.playbank.schema import PLAYBANK
from pylon.node import backup as module
from pylon.node import bank, identity
from pylon.node.backup import back_up
from pylon.node.bank import BankHost
from pylon.node.core import Core
from pylon.node.doctor.examine import examine
from pylon.node.home import BANK_DATABASE, Home
from pylon.node.open_home import SCHEMAS
from pylon.node.restored import refuse_backup_itself
from pylon.relay.server import RelayServer
from pylon.store import marks
from pylon.store.database import Database
from pylon.store.look import look_into
from tests.node.programs import environment, run

NOW = 1_700_000_000.0


def unheard(*_: object) -> None:
    """For who wants to hear nothing."""


async def lived_in(root, *networks: str) -> Home:
    for network in networks:
        home = Home(root, network)
        home.create()
        identity.create(home.identity_file)
        await (await Database.open(home.database, SCHEMAS, label=network)).close()
        (home.folder / "wallet").write_text("nostr+walletconnect://secret\n")
    return Home(root, networks[0])


def names(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def children(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_it_holds_all_that_cannot_be_had_again_of_every_network_and_is_a_home(tmp_path):
    home = await lived_in(tmp_path / "home", "play", "mainnet")
    for name in ("household.json", "gateway-token", "machine"):
        (home.folder / name).write_text(name)
    made = back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert names(tmp_path / "copy") == {
        "config.toml",
        "mainnet/identity",
        "mainnet/pylon.db",
        "mainnet/wallet",
        *(
            f"play/{name}"
            for name in ("identity", "pylon.db", "wallet", "household.json", "gateway-token", "machine")
        ),
    }
    assert (made.networks, made.copied_at, made.open_to_others) == (("play", "mainnet"), NOW, False)
    there = Home(tmp_path / "copy")
    assert identity.load(there.identity_file).public == identity.load(home.identity_file).public
    again = await Database.open(there.database, SCHEMAS, label="play")
    await again.close()
    # And it can be backed up itself.
    assert back_up(there, tmp_path / "copy of it", now=NOW + 9, told=unheard).copied_at == NOW


async def test_nobody_else_may_read_it(tmp_path):
    home = await lived_in(tmp_path / "home", "play")
    home.config_file.chmod(0o644)
    before = os.umask(0)
    try:
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    finally:
        os.umask(before)
    for path in (tmp_path / "copy", *(tmp_path / "copy").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_what_belongs_to_a_process_and_the_permission_for_live_money_are_not_in_it(tmp_path):
    home = await lived_in(tmp_path / "home", "mainnet")
    for name in ("lock", "live.json", ".wallet.draft", "pylon.db-new"):
        (home.folder / name).write_text(name)
    (home.folder / "folder").mkdir()
    os.mkfifo(home.folder / "pylon.sock")
    back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert names(tmp_path / "copy" / "mainnet") == {"identity", "pylon.db", "wallet"}


async def test_a_halt_of_all_spending_and_the_playbank_are_in_it(tmp_path):
    home = await lived_in(tmp_path / "home", "play")
    (home.root / "STOP").symlink_to("nowhere")
    identity.create(home.root / bank.KEY_FILE)
    await (await Database.open(home.root / BANK_DATABASE, [], label=bank.LABEL)).close()
    heard = []
    back_up(home, tmp_path / "copy", now=NOW, told=lambda *what: heard.append(what))
    assert {"STOP", "bank.db", "bank-identity"} <= names(tmp_path / "copy")
    assert [path.name for path, copied, size in heard if copied == size] == ["pylon.db", "bank.db"]


async def test_a_home_before_its_first_start_can_be_backed_up_and_one_without_a_key_not(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    with pytest.raises(SetupError, match="there is no key"):
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    home.identity_file.touch(mode=0o600)
    with pytest.raises(SetupError, match="is empty"):
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    home.identity_file.unlink()
    identity.create(home.identity_file)
    back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert names(tmp_path / "copy") == {"config.toml", "play/identity"}


async def test_each_network_that_is_in_it_has_its_key(tmp_path):
    home = await lived_in(tmp_path / "home", "play", "mainnet")
    other = Home(home.root, "mainnet").identity_file
    other.unlink()
    with pytest.raises(SetupError, match=r"there is no key in .*mainnet") as caught:
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert "PYLON_NETWORK=mainnet pylon identity restore" in caught.value.hint
    other.touch(mode=0o600)
    with pytest.raises(SetupError, match="is empty"):
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert not (tmp_path / "copy").exists()


async def test_it_is_written_over_nothing_and_into_no_folder_that_is_missing(tmp_path):
    home = await lived_in(tmp_path / "home", "play")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("empty", "link", "home"):
        with pytest.raises(SetupError, match="already exists"):
            back_up(home, tmp_path / name, now=NOW, told=unheard)
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="is a file, not a folder"):
        back_up(home, tmp_path / "file" / "copy", now=NOW, told=unheard)
    with pytest.raises(SetupError, match="does not exist"):
        back_up(home, tmp_path / "disk" / "copy", now=NOW, told=unheard)
    assert not (tmp_path / "disk").exists()


async def test_one_that_comes_to_be_meanwhile_is_not_touched(tmp_path):
    home = await lived_in(tmp_path / "home", "play")

    def told(*_: object) -> None:
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / "mine").touch()

    with pytest.raises(SetupError, match="in the meantime"):
        back_up(home, tmp_path / "copy", now=NOW, told=told)
    assert names(tmp_path / "copy") == {"mine"} and children(tmp_path) == {"copy", "home"}


async def test_one_that_fails_or_is_broken_off_leaves_no_key_behind(tmp_path):
    home = await lived_in(tmp_path / "home", "play")

    def broken_off(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(home, tmp_path / "copy", now=NOW, told=broken_off)
    os.truncate(home.database, home.database.stat().st_size // 2)
    with pytest.raises(SetupError, match="malformed"):
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert children(tmp_path) == {"home"}


async def test_what_a_killed_one_left_is_made_anew_and_what_is_not_its_own_stays(tmp_path):
    home = await lived_in(tmp_path / "home", "play")
    draft = tmp_path / "copy.unfinished"

    def killed(*_: object) -> None:
        draft.rename(tmp_path / "left")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(home, tmp_path / "copy", now=NOW, told=killed)
    (tmp_path / "left").rename(draft)
    for name in (".config.toml.x1", "bank.db-wal"):
        (draft / name).write_bytes(b"half of it")
    for name in ("photos", "playground", "STOP-list.txt", "config.toml.mine"):
        (draft / name).mkdir()
        with pytest.raises(SetupError, match=f"from a backup: {name}"):
            back_up(home, tmp_path / "copy", now=NOW, told=unheard)
        assert (draft / "play" / "pylon.db").exists()
        (draft / name).rmdir()
    back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert names(tmp_path / "copy") == {"config.toml", "play/identity", "play/pylon.db", "play/wallet"}
    assert not draft.exists()


async def test_a_folder_of_its_owners_that_is_called_as_a_draft_would_be_is_not_touched(tmp_path):
    home = await lived_in(tmp_path / "home", "play")
    for name in ("playground", "play"):
        mine = tmp_path / "games.unfinished" / name
        mine.mkdir(parents=True)
        mine.parent.chmod(0o755)
        with pytest.raises(SetupError, match=f"not from a backup: {name}"):
            back_up(home, tmp_path / "games", now=NOW, told=unheard)
        assert mine.is_dir() and stat.S_IMODE(mine.parent.stat().st_mode) == 0o755
        mine.rmdir()
    assert not (tmp_path / "games").exists()


async def test_what_has_the_name_of_a_draft_and_is_no_folder_of_ours_gets_no_key(tmp_path, monkeypatch):
    home = await lived_in(tmp_path / "home", "play")
    (tmp_path / "theirs").mkdir(mode=0o755)
    (tmp_path / "link.unfinished").symlink_to("theirs")
    (tmp_path / "file.unfinished").touch()
    for name in ("link", "file"):
        with pytest.raises(SetupError, match="does not belong to you, or is not a folder"):
            back_up(home, tmp_path / name, now=NOW, told=unheard)
    assert names(tmp_path / "theirs") == set() and stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o755
    (tmp_path / "copy.unfinished").mkdir()
    monkeypatch.setattr(module.os, "getuid", lambda: 1 + (tmp_path / "theirs").stat().st_uid)
    with pytest.raises(SetupError, match="does not belong to you, or is not a folder"):
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert children(tmp_path / "copy.unfinished") == set()


async def test_two_at_once_do_not_meet_in_one_folder(tmp_path, monkeypatch):
    home = await lived_in(tmp_path / "home", "play")
    draft = tmp_path / "copy.unfinished"
    draft.mkdir()
    held = os.open(draft, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(SetupError, match="another process"):
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)
    assert draft.exists()
    os.close(held)
    # Whoever had it is done with it before it is held here.
    monkeypatch.setattr(module.fcntl, "flock", lambda *_: draft.rename(tmp_path / "copy"))
    with pytest.raises(SetupError, match="another process"):
        back_up(home, tmp_path / "copy", now=NOW, told=unheard)


async def opened(home: Home) -> None:
    async with Core(home, settings.parse({"relays": ["ws://127.0.0.1:9"]}), serve=False):
        """It can be opened."""


async def copied_at(home: Home) -> float | None:
    found = look_into(home.database, SCHEMAS, label=home.network, within_s=60)
    assert found is not None
    return found.copied_at


async def test_the_backup_itself_is_opened_by_no_command_and_stays_one_and_a_copy_of_it_is_begun_with(
    tmp_path, monkeypatch
):
    home = await lived_in(tmp_path / "home", "play")
    (home.folder / "wallet").unlink()
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    back_up(home, tmp_path / "link" / "kept \udcff", now=NOW, told=unheard)
    kept = Home(tmp_path / "disk" / "kept \udcff")
    back_up(kept, tmp_path / "again", now=NOW + 1, told=unheard)
    for itself in (kept, Home(tmp_path / "link" / "kept \udcff"), Home(tmp_path / "again")):
        before = itself.database.read_bytes()
        with pytest.raises(SetupError, match="is a backup, and"):
            await opened(itself)
        assert (itself.database.read_bytes(), await copied_at(itself)) == (before, NOW)
        monkeypatch.setenv("PYLON_HOME", str(itself.root))
        todo = next(one.todo for one in (await examine()).findings if one.check == "node")
        assert todo.startswith("Put a copy of this backup in the home's place"), "no node starts here"
    for number in (1, 2):
        life = Home(tmp_path / f"life {number}")
        shutil.copytree(kept.root, life.root)
        assert await copied_at(life) == NOW
        await opened(life)
        assert await copied_at(life) is None


async def test_a_relay_does_not_go_on_with_the_playbank_of_the_backup_itself_and_does_with_a_copy_of_it(tmp_path):
    home = await lived_in(tmp_path / "home", "play")
    home.database.unlink()
    await (await Database.open(home.root / BANK_DATABASE, [PLAYBANK], label=bank.LABEL)).close()
    back_up(home, tmp_path / "kept", now=NOW, told=unheard)
    before = names(tmp_path / "kept")
    status, _, told = await run("relay", "--port", "0", env=environment(tmp_path / "kept", "ws://127.0.0.1:9"))
    assert (status, "is a backup, and must stay as it is" in told) == (3, True)
    assert names(tmp_path / "kept") == before
    shutil.copytree(tmp_path / "kept", tmp_path / "life")
    refuse_backup_itself(Home(tmp_path / "life"))
    async with RelayServer() as relay:
        for _ in range(2):
            async with BankHost(tmp_path / "life", relay.url):
                pass
    books = await Database.open(tmp_path / "life" / BANK_DATABASE, [PLAYBANK], label=bank.LABEL)
    assert await marks.copied_at(books) is None
    await books.close()


async def test_a_start_that_fails_for_the_wallets_sake_does_not_use_up_the_copy(tmp_path):
    home = await lived_in(tmp_path / "home", "play")
    back_up(home, tmp_path / "kept", now=NOW, told=unheard)
    life = Home(tmp_path / "life")
    shutil.copytree(tmp_path / "kept", life.root)
    with pytest.raises(PylonError, match="connection string"):
        await opened(life)
    assert await copied_at(life) == NOW
