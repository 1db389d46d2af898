"""A key that is kept under a passphrase, from its making to its return."""

import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from pylon.cli.program import app
from pylon.relay.server import RelayServer
from tests.node import programs

NOBODY = "ws://127.0.0.1:9"
PASSPHRASE = "correct horse battery"


@pytest.fixture
def bare(tmp_path):
    return programs.environment(tmp_path / "home", NOBODY)


@pytest.fixture
def knowing(bare):
    return {**bare, "PYLON_PASSPHRASE": PASSPHRASE}


def run(*arguments: str, env: dict[str, str]) -> tuple[int, Any, str]:
    """A command in this process: what it does is over before any loop or child would be needed."""
    done = CliRunner().invoke(app, [*arguments, "--json"], env=env)
    return done.exit_code, orjson.loads(done.stdout), done.stderr


def key_file(env) -> Path:
    return Path(env["PYLON_HOME"]) / "play" / "identity"


def key_of(env) -> str:
    return key_file(env).read_text()


def test_init_keeps_a_new_key_under_a_passphrase(bare, knowing):
    code, made, _ = run("init", "--passphrase", env=knowing)
    assert (code, made["new"]) == (0, True)
    assert key_of(bare).startswith("ncryptsec1")
    code, shown, _ = run("identity", "show", env=knowing)
    assert (code, shown["npub"]) == (0, made["npub"])


def test_without_its_passphrase_the_key_is_of_no_use_and_the_next_step_is_named(bare, knowing):
    run("init", "--passphrase", env=knowing)
    for command in (("identity", "show"), ("init",)):
        code, error, text = run(*command, env=bare)
        assert (code, error["error"]["type"]) == (3, "SetupError")
        assert "PYLON_PASSPHRASE" in text
    wrong = {**bare, "PYLON_PASSPHRASE": "another horse"}
    code, error, _ = run("identity", "show", env=wrong)
    assert (code, error["error"]["type"]) == (3, "SetupError")


async def test_a_node_with_a_protected_key_serves(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(tmp_path / "home", relay.url, PYLON_PASSPHRASE=PASSPHRASE)
        _, made, _ = await programs.run("init", "--passphrase", env=env)
        serving = await programs.start(env, stack)
        assert serving.hello["npub"] == made["npub"]


def test_a_short_passphrase_is_refused_before_anything_is_made(bare, tmp_path):
    code, error, _ = run("init", "--passphrase", env={**bare, "PYLON_PASSPHRASE": "short"})
    assert (code, error["error"]["type"]) == (2, "UsageError")
    assert not (tmp_path / "home").exists()


def test_init_says_that_a_bare_key_stays_bare(bare, knowing):
    run("init", env=bare)
    code, error, _ = run("init", "--passphrase", env=knowing)
    assert (code, error["error"]["type"]) == (2, "UsageError")
    assert "identity restore" in error["error"]["hint"]
    assert key_of(bare).startswith("nsec1")
    assert (run("init", env=bare))[0] == 0


@pytest.mark.parametrize("plain", [False, True])
def test_a_restored_key_is_protected_when_asked(knowing, tmp_path, plain):
    _, made, _ = run("init", env=knowing)
    backup = tmp_path / "backup"
    run("identity", "backup", str(backup), *(["--plain"] if plain else []), env=knowing)
    protected = {**knowing, "PYLON_HOME": str(tmp_path / "protected")}
    code, restored, _ = run("identity", "restore", str(backup), "--passphrase", env=protected)
    assert (code, restored["npub"], restored["encrypted"]) == (0, made["npub"], True)
    assert key_of(protected).startswith("ncryptsec1")
    assert (run("identity", "show", env=protected))[1]["npub"] == made["npub"]


def test_a_file_without_a_key_is_named_and_nobody_is_sent_to_the_backup_that_it_was_to_be(bare, tmp_path):
    letter = tmp_path / "letter"
    letter.write_text("dear reader of this letter")
    code, error, _ = run("identity", "restore", str(letter), env=bare)
    assert code == 3 and str(letter) in error["error"]["message"] and "dear" not in error["error"]["message"]
    assert error["error"]["hint"] == "Name the file that holds the key, or another backup."


def test_a_restored_key_is_bare_unless_asked(knowing, tmp_path):
    run("init", env=knowing)
    backup = tmp_path / "backup"
    run("identity", "backup", str(backup), env=knowing)
    plain = {**knowing, "PYLON_HOME": str(tmp_path / "plain")}
    code, restored, _ = run("identity", "restore", str(backup), env=plain)
    assert (code, restored["encrypted"]) == (0, False)
    assert key_of(plain).startswith("nsec1")


def test_where_nobody_can_type_a_passphrase_its_variable_is_named(bare):
    run("init", env=bare)
    file = Path(bare["PYLON_HOME"]) / "backup"
    done = without_terminal("identity", "backup", str(file), env=bare, typed="")
    assert done.returncode == 2 and not file.exists()
    assert "PYLON_PASSPHRASE" in done.stderr and "--plain" in done.stderr
    assert "Aborted" not in done.stderr and "GetPassWarning" not in done.stderr
    for command in (("init",), ("identity", "restore", str(key_file(bare)))):
        new = {**bare, "PYLON_HOME": f"{bare['PYLON_HOME']}-new"}
        told = without_terminal(*command, "--passphrase", env=new, typed="").stderr
        assert (
            "PYLON_PASSPHRASE; without --passphrase the key is stored unencrypted" in told and "--plain" not in told
        )
    other = without_terminal("identity", "backup", str(file), env=bare, typed=f"{PASSPHRASE}\nanother horse\n")
    assert other.returncode == 2 and "differ" in other.stderr
    piped = without_terminal("identity", "backup", str(file), env=bare, typed=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert piped.returncode == 0 and file.read_text().startswith("ncryptsec1")


def without_terminal(*arguments: str, env: dict[str, str], typed: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pylon.cli.main", *arguments]
    # Of its own session, for a terminal is asked even where standard input is none.
    return subprocess.run(
        command, input=typed, env=env, capture_output=True, text=True, timeout=60, start_new_session=True
    )


def test_an_empty_file_is_said_to_be_one_and_no_broken_key(bare, tmp_path):
    (tmp_path / "nothing").touch()
    code, error, _ = run("identity", "restore", str(tmp_path / "nothing"), env=bare)
    assert code == 3 and "is empty" in error["error"]["message"]


@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape"])
def test_a_passphrase_on_standard_input_is_text_to_the_letter(bare, tmp_path, encoding):
    run("init", env=bare)

    def backup(typed: bytes) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "pylon.cli.main", "identity", "backup", str(tmp_path / "backup"), "--json"]
        env = {**bare, "PYTHONIOENCODING": encoding}
        # Without a terminal, where getpass would ask.
        return subprocess.run(
            command, input=typed, env=env, capture_output=True, start_new_session=True, timeout=100, check=False
        )

    refused = backup("caf\u00e9 caf\u00e9\n".encode("latin-1") * 2)
    assert refused.returncode == 2 and b"Traceback" not in refused.stderr
    assert "UTF-8" in orjson.loads(refused.stdout)["error"]["message"]
    assert not (tmp_path / "backup").exists()
    assert backup("caf\u00e9 caf\u00e9\r\n".encode() * 2).returncode == 0
    restored = {**bare, "PYLON_HOME": str(tmp_path / "other"), "PYLON_PASSPHRASE": "caf\u00e9 caf\u00e9"}
    assert run("identity", "restore", str(tmp_path / "backup"), env=restored)[0] == 0


def test_a_file_that_is_not_there_is_not_called_unreadable_text(bare, tmp_path):
    code, error, _ = run("identity", "restore", str(tmp_path / "nope"), env=bare)
    assert code == 3 and "nope cannot be read: No such file" in error["error"]["message"]
