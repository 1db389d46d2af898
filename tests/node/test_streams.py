"""What commands do where the system refuses them something: a message, never a traceback."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pylon.config import load, parse
from pylon.errors import SetupError
from pylon.node import identity
from pylon.nostr.keys import SecretKey
from tests.node import programs

PYLON = (sys.executable, "-P", "-c", "from pylon.cli.main import main; main()")


def run(home: Path, *arguments: str, stdout=subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYLON_", "LC_", "LANG"))}
    return subprocess.run(
        [*PYLON, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        env={**plain, "PYLON_HOME": str(home), **environment},
    )


async def told(home: Path, *arguments: str) -> tuple[int, bytes, bytes]:
    """The same where the beginning of a process plays no part: its status, what it printed, what it told people."""
    process = await programs.spawn(
        *arguments,
        env=programs.environment(home, "ws://127.0.0.1:9"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out, err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize("arguments", [("version",), ("version", "--json"), ("models", "recommend")], ids=" ".join)
def test_a_full_disk_is_told_of_in_one_line(tmp_path, arguments):
    with Path("/dev/full").open("wb") as full:
        ended = run(tmp_path, *arguments, stdout=full)
    said = ended.stderr.decode()
    assert ended.returncode == 1 and "Traceback" not in said and "Exception ignored" not in said
    assert said.count("No space left on device") == 1


@pytest.mark.parametrize("arguments", ["version", "version --json", "models recommend"])
def test_a_closed_standard_output_is_none_at_all(tmp_path, arguments):
    shell = f'exec {sys.executable} -P -c "from pylon.cli.main import main; main()" {arguments} >&-'
    ended = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, timeout=60, env={**os.environ})
    assert (ended.returncode, ended.stderr.decode()) == (0, "")


def test_what_is_printed_into_a_file_is_utf8_whatever_the_locale_says(tmp_path):
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    ended = run(tmp_path, "models", "recommend", "--memory-gb", "64", **locale)
    assert ended.returncode == 0 and ended.stderr == b""
    assert "×" in ended.stdout.decode()


def test_a_terminal_that_lacks_a_character_gets_one_that_looks_like_it(tmp_path):
    terminal, other_end = os.openpty()
    ended = run(tmp_path, "rlm", "--help", stdout=other_end, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    os.close(other_end)
    said = os.read(terminal, 65_536).decode("ascii")
    os.close(terminal)
    assert ended.returncode == 0 and "FILE..." in said and "\\u" not in said


def test_a_folder_where_the_settings_should_be_and_a_byte_order_mark_before_them(tmp_path):
    (tmp_path / "config.toml").mkdir()
    ended = run(tmp_path, "status", "--json")
    assert ended.returncode == 3
    assert "cannot be read" in json.loads(ended.stdout)["error"]["message"]
    file = tmp_path / "marked.toml"
    file.write_bytes(b'\xef\xbb\xbfnetwork = "play"\n')
    assert load(file).network == "play"
    file.write_text('network = "play"', "utf-16")
    with pytest.raises(SetupError, match="not UTF-8"):
        load(file)


async def test_help_and_version_go_by_what_people_type(tmp_path):
    async def printed(line: str) -> bytes:
        return (await told(tmp_path, *line.split()))[1]

    assert await printed("--version") == await printed("version")
    assert await printed("help map") == await printed("map --help") != b""
    assert await printed("help") == await printed("--help")


@pytest.mark.parametrize("arguments", [("ask", ""), ("ask", " "), ("rlm", "", "-c", "x")], ids=str)
async def test_nobody_is_asked_nothing(tmp_path, arguments):
    code, _, said = await told(tmp_path, *arguments)
    assert code == 2 and b"is empty" in said


def test_a_key_goes_to_a_file_in_a_folder_that_is_there(tmp_path):
    for bad in (tmp_path, tmp_path / "no" / "key"):
        with pytest.raises(SetupError, match="not a file in an"):
            identity.write(bad, SecretKey.generate())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--calls", "--sats", "--tokens"])
async def test_a_limit_that_no_run_could_reach_is_refused(tmp_path, option):
    assert (await told(tmp_path, "init"))[0] == 0
    (tmp_path / "text").write_text("a text")
    code, _, said = await told(tmp_path, "rlm", "x", "-c", str(tmp_path / "text"), option, str(10**30))
    assert code == 2 and b"Traceback" not in said
    assert f"max_{option[2:]}: ".encode() in said and b"pydantic" not in said


@pytest.mark.parametrize(
    "line",
    [
        "providers --network foo", "models recommend --memory-gb inf", "simulate --providers 5 --jobs 5 --job-s nan",
        "simulate --providers 5 --jobs 5 --unlike inf", "simulate --providers 5 --jobs 5 --uneven 1e30",
        f"simulate --providers 5 --jobs 5 --relays {10**30}", "simulate --providers 0", "conformance zz",
        f"conformance {'0' * 63}1 --relay http://x", "conformance npub1zz",
    ],
)  # fmt: skip
async def test_an_option_beyond_all_sense_is_refused(tmp_path, line):
    code, _, said = await told(tmp_path, *line.split())
    assert code == 2 and b"Traceback" not in said


async def test_a_wallet_link_that_is_none_is_a_wrong_call(tmp_path):
    assert (await told(tmp_path, "init"))[0] == 0
    code, _, said = await told(tmp_path, "wallet", "connect", "foo")
    assert code == 2 and b"connection string" in said


def test_no_setting_is_without_bounds(tmp_path):
    with pytest.raises(SetupError, match="watts"):
        parse({"earnings": {"watts": float("inf")}})


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("relay --port 99999", 2, "65535"),
        ("relay --port 0 --host 192.0.2.77", 3, "an address of this machine"),
        ("relay --port 0 --allow npub1nope", 2, "64 hex digits"),
        ("relay --port 0 --database /proc/x.db", 1, "existing folder"),
    ],
)
async def test_a_relay_that_cannot_begin_says_what_to_do(tmp_path, line, code, says):
    ended, _, said = await told(tmp_path, *line.split())
    assert ended == code, said
    assert says in said.decode() and b"Traceback" not in said
