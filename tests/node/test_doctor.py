"""`pylon doctor` as a careless owner runs it: real homes, real relays, a node that runs."""

import asyncio
import errno
import os
import socket
import ssl
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from websockets.asyncio.server import serve

from pylon.cli.doctor import _lines
from pylon.host.hardware import machine_mark
from pylon.node import identity
from pylon.node.doctor import asking, reading
from pylon.node.doctor.examine import examine
from pylon.node.doctor.relays import Answers
from pylon.node.home import Home
from pylon.node.open_home import SCHEMAS
from pylon.relay.server import RelayServer
from pylon.store.database import Database
from tests.node import programs
from tests.nostr.test_tls import certificate

NOBODY = "ws://127.0.0.1:9"


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


def by_check(found) -> dict[str, tuple[str, str]]:
    return {one["check"]: (one["verdict"], one["said"]) for one in found["findings"]}


async def test_without_a_home_it_says_so_and_makes_none(tmp_path):
    env = programs.environment(tmp_path / "home", NOBODY)
    code, found, _ = await programs.run("doctor", env=env)
    assert (code, found["verdict"], found["no_jobs"]) == (1, "wrong", ["settings"])
    assert not (tmp_path / "home").exists()


async def test_a_node_that_serves_is_found_on_its_relay(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url)
    await programs.run("init", env=env)
    _, before, _ = await programs.run("doctor", env=env)
    assert by_check(before)["node"][0] == "wrong" and "seen" not in by_check(before)
    await programs.start(env, stack)
    await programs.loaded(env)
    code, found, _ = await programs.run("doctor", env=env)
    checks = by_check(found)
    assert checks["node"][0] == checks["seen"][0] == checks[f"relay {relay.url}"][0] == "ok"
    assert checks["clock"] == ("ok", "within 5 s of the relays'")
    # It listens on this machine alone, which is all that is not in order.
    assert (found["verdict"], found["no_jobs"], found["only_own"], code) == ("warning", [], ["relays"], 0)
    shown = await programs.spawn("doctor", env=env)
    last = (await asyncio.wait_for(shown.communicate(), 100))[0].decode().splitlines()[-1]
    assert last == "Jobs arrive only from this machine because of: relays"
    # The settings changed since it began: what counts is what it has.
    paid = env | {"PYLON_PROVIDER__PRICING": "paid"}
    _, found, _ = await programs.run("doctor", env=paid)
    assert by_check(found)["offer"][1].startswith("the node serves for free, but from its next start on for 1,000")
    assert found["no_jobs"] == [] and "no wallet is connected" in by_check(found)["offer"][1]
    _, price, _ = await programs.run("price", "show", env=paid)
    assert (price["pricing"], price["now"]["pricing"]) == ("paid", "free")
    await programs.run("pause", env=env)
    code, found, _ = await programs.run("doctor", env=env)
    assert (code, by_check(found)["node"]) == (1, ("wrong", "paused (owner) by hand"))


async def test_a_careless_owner_hears_of_everything_at_once_and_nothing_is_changed(tmp_path):
    root = tmp_path / "home"
    env = programs.environment(root, NOBODY, PYLON_INFERENCE__ENGINE="mlx", PYLON_INFERENCE__MODEL="not/here")
    env |= {"PYLON_PROVIDER__PRICING": "paid"}
    await programs.run("init", env=env)
    (root / "play" / "identity").chmod(0o644)
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    code, found, _ = await programs.run("doctor", env=env)
    checks = by_check(found)
    wrong = {check for check, (verdict, _) in checks.items() if verdict == "wrong"}
    assert code == 1
    assert wrong == {"home", "key", f"relay {NOBODY}", "relays", "model", "offer", "node"}
    assert "identity" in checks["home"][1]
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


async def test_a_fault_in_the_settings_is_named(tmp_path):
    env = programs.environment(tmp_path / "home", NOBODY)
    await programs.run("init", env=env)
    code, found, _ = await programs.run("doctor", env=env | {"PYLON_INFERENCE__SLOTS": "many"})
    assert code == 1
    assert "PYLON_INFERENCE__SLOTS" in by_check(found)["settings"][1]


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("PYLON_OWNER__SCHEDULE", '["moonday 22:00-06:30"]', "owner.schedule"),
        ("PYLON_PROVIDER__TRUSTED", '["npub1nonsense"]', "provider.trusted"),
        ("PYLON_PROVIDER__BLOCKED", '["me"]', "provider.blocked"),
    ],
)
async def test_what_no_node_starts_with_is_a_fault_in_the_settings(tmp_path, variable, value, named):
    env = programs.environment(tmp_path / "home", NOBODY)
    await programs.run("init", env=env)
    code, found, _ = await programs.run("doctor", env=env | {variable: value})
    assert code == 1 and found["no_jobs"] and by_check(found)["settings"][0] == "wrong"
    assert named in by_check(found)["settings"][1]


async def test_a_fault_in_the_settings_says_nothing_against_a_node_that_runs_with_others(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url)
    await programs.run("init", env=env)
    await programs.start(env, stack)
    code, found, _ = await programs.run("doctor", env=env | {"PYLON_INFERENCE__SLOTS": "many"})
    checks = by_check(found)
    assert (code, checks["settings"][0], checks["node"][0], found["no_jobs"]) == (1, "wrong", "ok", [])


async def test_a_copied_home_is_noticed(tmp_path):
    env = programs.environment(tmp_path / "home", NOBODY)
    await programs.run("init", env=env)
    mark = tmp_path / "home" / "play" / "machine"
    if not machine_mark():
        pytest.skip("this machine has no id")
    assert by_check((await programs.run("doctor", env=env))[1])["machine"][0] == "ok"
    mark.write_text("f" * 32)
    found = by_check((await programs.run("doctor", env=env))[1])
    assert found["machine"][0] == "warning"
    # Whoever moved it for good says so.
    mark.unlink()
    await programs.run("init", env=env)
    assert by_check((await programs.run("doctor", env=env))[1])["machine"][0] == "ok"


async def test_a_home_without_a_mark_is_left_in_peace(tmp_path):
    env = programs.environment(tmp_path / "home", NOBODY)
    await programs.run("init", env=env)
    (tmp_path / "home" / "play" / "machine").unlink(missing_ok=True)
    assert "machine" not in by_check((await programs.run("doctor", env=env))[1])


@pytest.mark.parametrize("off", [-600, 0, 3_600])
async def test_the_clock_is_compared_with_the_date_that_a_relay_gives(off):
    def dated(connection, request, response=None):
        said = format_datetime(datetime.now(UTC) + timedelta(seconds=off), usegmt=True)
        answer = connection.respond(200, "{}")
        del answer.headers["Date"]
        answer.headers["Date"] = said
        return answer

    async def nothing(connection):
        await connection.wait_closed()

    async with serve(nothing, "127.0.0.1", 0, process_request=dated) as server:
        port = server.sockets[0].getsockname()[1]
        ahead = await asking._clock_ahead_s(f"ws://127.0.0.1:{port}")
    assert ahead is not None
    assert abs(ahead + off) < 60


async def test_a_name_with_several_addresses_where_nobody_listens_has_the_number_and_words_of_one(monkeypatch):
    # As the name of a Mac in its network has an address of each kind.
    async def both(host, port, **_):
        found = [(socket.AF_INET6, ("::1", 9, 0, 0)), (socket.AF_INET, ("127.0.0.1", 9))]
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    assert await asking._connect("ws://mac.local:9") == (errno.ECONNREFUSED, "Connection refused")


async def test_a_name_that_macos_does_not_know_is_told_in_its_words(monkeypatch):
    async def unknown(host, port, **_):
        # On Linux such numbers are negative; this one is ENOEXEC.
        raise socket.gaierror(8, "nodename nor servname provided, or not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    assert await asking._connect("ws://mac.local:9") == (None, "nodename nor servname provided, or not known")


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 0000 99:99:99 GMT", "\u00ff"])
async def test_a_relay_that_tells_no_time_or_nonsense_is_no_error(date, monkeypatch):
    # The library waits for the rest of what is no HTTP.
    monkeypatch.setattr(asking, "ANSWER_S", 1.0)
    monkeypatch.setattr(asking, "OPEN_S", 1.0)

    def dated(connection, request, response=None):
        answer = connection.respond(200, "{}")
        del answer.headers["Date"]
        if date:
            answer.headers["Date"] = date
        return answer

    async def nothing(connection):
        await connection.wait_closed()

    async with serve(nothing, "127.0.0.1", 0, process_request=dated) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asking._clock_ahead_s(f"ws://127.0.0.1:{port}") is None
        read = await asking.read_relay(f"ws://127.0.0.1:{port}", "", None)
    assert read.error


async def nothing(connection):
    await connection.wait_closed()


@pytest.mark.parametrize(
    ("secured", "scheme", "answers"),
    [
        (True, "ws", Answers.OTHER_SCHEME),
        (False, "wss", Answers.OTHER_SCHEME),
        (True, "wss", Answers.UNTRUSTED),
    ],
)
async def test_a_relay_of_the_other_scheme_or_of_an_unknown_certificate_is_told_apart(
    tmp_path, secured, scheme, answers
):
    context = None
    if secured:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path))
    async with serve(nothing, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        read = await asking.read_relay(f"{scheme}://127.0.0.1:{port}", "", None)
    assert (read.answers, bool(read.error)) == (answers, True)
    assert read.elsewhere == f"{'ws' if scheme == 'wss' else 'wss'}://127.0.0.1:{port}"


async def test_another_program_on_the_port_is_not_taken_for_a_relay_that_is_away():
    async def banner(_, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(banner, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        read = await asking.read_relay(url, "", None)
    assert read.answers is Answers.STRANGER and read.error
    assert (await asking.read_relay(url, "", None)).answers is Answers.NOTHING


def test_whose_home_it_is_and_who_looks_is_read(tmp_path, monkeypatch):
    home = Home(tmp_path / "home")
    home.create()
    mine = reading.read_home(home)[0]
    assert mine.owner == mine.reader and not mine.foreign
    monkeypatch.setattr(os, "getuid", lambda: 0 if home.root.stat().st_uid else 4_242)
    other = reading.read_home(home)[0]
    assert other.owner == mine.owner != other.reader and not other.foreign
    assert other.root is (os.getuid() == 0)


def test_a_path_in_a_command_is_not_broken_over_lines():
    lines = _lines("→ Do each other's: chmod go-rwx '/home of ann/a long way/to it' or '/not there'", 20, "  ")
    assert any("'/home of ann/a long way/to it'" in line for line in lines) and len(lines) > 2
    assert " ".join(line.strip() for line in lines).endswith("'/not there'")


async def test_a_damaged_database_is_told_as_that_and_not_as_a_node_to_be_started(tmp_path, monkeypatch):
    home = Home(tmp_path)
    home.create()
    identity.create(home.identity_file)
    books = await Database.open(home.database, SCHEMAS, label=home.network)
    await books.close()
    monkeypatch.setenv("PYLON_HOME", str(tmp_path))
    monkeypatch.setenv("PYLON_RELAYS", f'["{NOBODY}"]')
    sound = {one.check: one for one in (await examine()).findings}
    assert sound["database"].verdict == "ok" and sound["node"].todo.startswith("`pylon start`")
    os.truncate(home.database, home.database.stat().st_size // 2)
    found = {one.check: one for one in (await examine()).findings}
    assert found["database"].no_jobs and "backup" in found["database"].todo
    assert found["node"].todo.startswith("Repair the database; then")


async def test_a_disk_that_is_mounted_read_only_is_seen_as_one(tmp_path, monkeypatch):
    assert not reading.read_machine(Home(tmp_path)).read_only
    kinds = os.statvfs_result([0] * 8 + [os.ST_RDONLY] + [255])
    monkeypatch.setattr(os, "statvfs", lambda _: kinds)
    monkeypatch.setattr(reading.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**11))
    assert reading.read_machine(Home(tmp_path)).read_only
