"""What systemd is told, held against systemd itself, and its answers as systemd 257 gave them."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import SetupError
from pylon.host.service import CLOSE_S, ServiceSpec, ServiceState
from pylon.host.systemd import Systemd

SPEC = ServiceSpec(
    ("/opt/pylon/bin/pylon",), Path("/home/ann/.pylon"), Path("/home/ann"), "ann", 1000,
    system=False, relay=False, drain_s=60, private_tmp=True, shared=None,
)  # fmt: skip
LOCKS = Path("/home/ann/.local/state/pylon")
RUNNING = """MainPID=227
NRestarts=1
ExecMainCode=0
ExecMainStatus=0
LoadState=loaded
ActiveState=active
SubState=running
"""
STOPPED = """MainPID=0
NRestarts=0
ExecMainCode=1
ExecMainStatus=0
LoadState=loaded
ActiveState=inactive
SubState=dead
"""
KILLED = """MainPID=0
NRestarts=0
ExecMainCode=2
ExecMainStatus=9
LoadState=loaded
ActiveState=activating
SubState=auto-restart
"""
ABSENT = """MainPID=0
NRestarts=0
ExecMainCode=0
ExecMainStatus=0
LoadState=not-found
ActiveState=inactive
SubState=dead
"""


def test_the_whole_unit_of_a_user():
    assert (
        Systemd(SPEC).text().decode()
        == """# Written by `pylon service install` for /home/ann/.pylon
[Unit]
Description=Pylon, a node of a swarm of language models
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=/opt/pylon/bin/pylon service run --drain-s 60
Environment=PATH=/opt/pylon/bin:/home/ann/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
Environment=HOME=/home/ann
WorkingDirectory=/home/ann/.pylon
Restart=on-failure
RestartSec=10
KillMode=mixed
TimeoutStopSec=75
UMask=0077
LimitNOFILE=8192
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""
    )
    assert str(Systemd(SPEC).file()) == "/home/ann/.config/systemd/user/pylon.service"


def test_a_unit_of_the_machine_may_write_its_home_and_little_else():
    text = Systemd(replace(SPEC, system=True, shared=LOCKS)).text().decode().splitlines()
    for line in (
        "User=ann",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "ReadWritePaths=/home/ann/.pylon -/home/ann/.local/state/pylon",
        "WantedBy=multi-user.target",
        "After=network-online.target",
    ):
        assert line in text
    assert not [line for line in text if line.startswith(("MemoryDenyWriteExecute", "PrivateDevices", "ProcSubset"))]
    assert str(Systemd(replace(SPEC, system=True)).file()) == "/etc/systemd/system/pylon.service"


def test_a_home_whose_socket_is_in_tmp_shares_tmp_with_its_commands():
    text = Systemd(replace(SPEC, system=True, private_tmp=False)).text().decode().splitlines()
    assert "PrivateTmp=no" in text
    assert "ReadWritePaths=/tmp /var/tmp" in text


def test_systemd_waits_longer_than_the_node_drains():
    text = Systemd(replace(SPEC, drain_s=30)).text().decode()
    assert "--drain-s 30" in text
    assert f"TimeoutStopSec={30 + CLOSE_S}" in text


def verified(text: bytes, folder: Path, *, user: bool) -> str:
    unit = folder / "pylon.service"
    unit.write_bytes(text)
    command = ["systemd-analyze", *(["--user"] if user else []), "verify", str(unit)]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "SYSTEMD_LOG_COLOR": "0"}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False)
    return (done.stdout + done.stderr).decode()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("folder", ["plain", "a b", "50%n", "$HOME", "äö'ü"])
def test_systemd_has_nothing_to_say_against_the_units(tmp_path, system, folder):
    place = tmp_path / folder
    place.mkdir()
    program = tmp_path / folder.replace("'", "") / "pylon"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    spec = ServiceSpec(
        (str(program),), place, place, "root", 0, system=system, relay=True, drain_s=60, private_tmp=True, shared=None
    )
    # It ends with 0 over a line that it does not know: only silence is consent.
    assert verified(Systemd(spec).text(), tmp_path, user=not system) == ""
    wrong = Systemd(spec).text().replace(b"RestartSec", b"RestartSecs")
    assert "RestartSecs" in verified(wrong, tmp_path, user=not system)


@pytest.mark.parametrize("program", ['/opt/a"b/pylon', "/opt/a'b/pylon", "/opt/a\\b/pylon"])
def test_a_program_that_systemd_cannot_start_is_refused(program):
    with pytest.raises(SetupError, match="quotes or backslashes"):
        Systemd(replace(SPEC, program=(program,))).text()


@pytest.mark.parametrize(
    ("printed", "code", "state"),
    [
        (RUNNING, 0, ServiceState(True, "active (running)", 227, "", 2)),
        (STOPPED, 0, ServiceState(True, "inactive (dead)", None, "0", 1)),
        (KILLED, 0, ServiceState(True, "activating (auto-restart)", None, "signal 9", 1)),
        (ABSENT, 0, ServiceState()),
        ("Failed to connect to bus: No medium found", 1, ServiceState()),
    ],
)
def test_what_systemctl_shows_is_understood(printed, code, state):
    assert Systemd(SPEC).state(printed, code) == state


@given(st.text(max_size=400))
def test_whatever_systemctl_shows_is_no_error(printed):
    Systemd(SPEC).state(printed, 0)


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=20))
def test_the_home_that_was_written_is_read_back(name):
    if "/" in name or name in (".", "..") or not name.isprintable():
        return
    spec = replace(SPEC, home=Path("/srv") / name)
    assert Systemd(spec).home_in(Systemd(spec).text()) == spec.home


@pytest.mark.parametrize("text", [b"", b"[Unit]\n", b"\xff\n# Written by `pylon service install` for /x"])
def test_a_unit_that_is_not_pylons_has_no_home(text):
    assert Systemd(SPEC).home_in(text) is None
