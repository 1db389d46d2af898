"""What launchd is told, and what it answers. Its answers are made after such as people posted."""

import plistlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import SetupError
from pylon.host.launchd import EXIT_TIMEOUT_S, Launchd, drain_s
from pylon.host.service import CLOSE_S, ServiceSpec, ServiceState

SPEC = ServiceSpec(
    ("/Users/ann/pylon/.venv/bin/pylon",),
    Path("/Users/ann/.pylon"),
    Path("/Users/ann"),
    "ann",
    501,
    system=False,
    relay=False,
    private_tmp=True,
    shared=None,
    drain_s=drain_s(60),
)
RUNNING = """gui/501/pylon.node = {
\tactive count = 1
\tpath = /Users/ann/Library/LaunchAgents/pylon.node.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /Users/ann/pylon/.venv/bin/pylon
\targuments = {
\t\t/Users/ann/pylon/.venv/bin/pylon
\t\tservice
\t\trun
\t}

\tdomain = gui/501 [100006]
\tminimum runtime = 10
\texit timeout = 60
\truns = 2
\tpid = 913
\timmediate reason = semaphore
\tforks = 5
\texecs = 1
\tlast exit code = 3

\tresource coalition = {
\t\tID = 1234
\t\tstate = active
\t\tactive count = 1
\t}
}
"""
NEVER = RUNNING.replace("state = running", "state = not running", 1).replace("\tpid = 913\n", "")
NEVER = NEVER.replace("last exit code = 3", "last exit code = (never exited)")


def described(spec: ServiceSpec) -> dict[str, object]:
    return plistlib.loads(Launchd(spec).text())


def test_the_whole_description_of_an_agent():
    assert described(SPEC) == {
        "Label": "pylon.node",
        "ProgramArguments": ["/Users/ann/pylon/.venv/bin/pylon", "service", "run", "--drain-s", "45"],
        "EnvironmentVariables": {
            "PATH": "/Users/ann/pylon/.venv/bin:/Users/ann/.local/bin:/opt/homebrew/bin"
            ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": "/Users/ann",
        },
        "WorkingDirectory": "/Users/ann/.pylon",
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ProcessType": "Interactive",
        "ExitTimeOut": 60,
        "Umask": 0o077,
        "SoftResourceLimits": {"NumberOfFiles": 8192},
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": "/dev/null",
    }
    assert str(Launchd(SPEC).file()) == "/Users/ann/Library/LaunchAgents/pylon.node.plist"


def test_a_daemon_has_a_user_and_belongs_to_the_machine():
    daemon = replace(SPEC, system=True, relay=True, home=Path("/srv/pylon"))
    found = described(daemon)
    assert found["UserName"] == "ann"
    assert found["ProgramArguments"][-1] == "--relay"
    assert found["EnvironmentVariables"]["PYLON_HOME"] == "/srv/pylon"
    assert str(Launchd(daemon).file()) == "/Library/LaunchDaemons/pylon.node.plist"
    assert Launchd(daemon).start()[-1] == (
        "launchctl",
        "bootstrap",
        "system",
        "/Library/LaunchDaemons/pylon.node.plist",
    )


def test_jobs_are_finished_before_launchd_kills():
    assert drain_s(60) + CLOSE_S <= EXIT_TIMEOUT_S
    assert drain_s(5) == 5


def test_commands_of_an_agent_go_to_its_owners_session():
    manager = Launchd(SPEC)
    assert manager.stop() == (("launchctl", "bootout", "gui/501/pylon.node"),)
    assert manager.restart() == (), "launchd has no command for it that waits for a node's jobs"
    assert manager.start() == (
        ("launchctl", "enable", "gui/501/pylon.node"),
        ("launchctl", "bootstrap", "gui/501", "/Users/ann/Library/LaunchAgents/pylon.node.plist"),
    )


@pytest.mark.parametrize(
    ("printed", "code", "state"),
    [
        (RUNNING, 0, ServiceState(True, "running", 913, "3", 2)),
        (NEVER, 0, ServiceState(True, "not running", None, "", 2)),
        (
            RUNNING.replace("code = 3", "code = 78: EX_CONFIG"),
            0,
            ServiceState(True, "running", 913, "78: EX_CONFIG", 2),
        ),
        (
            RUNNING.replace("last exit code = 3", "last terminating signal = Killed: 9"),
            0,
            ServiceState(True, "running", 913, "Killed: 9", 2),
        ),
        ('Bad request.\nCould not find service "pylon.node" in domain for user gui: 501', 113, ServiceState()),
    ],
)
def test_what_launchctl_prints_is_understood(printed, code, state):
    assert Launchd(SPEC).state(printed, code) == state


@given(st.text(max_size=400), st.integers(0, 255))
def test_whatever_launchctl_prints_is_no_error(printed, code):
    assert Launchd(SPEC).state(printed, code).loaded == (code == 0)


names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20).filter(
    lambda name: "/" not in name and name not in (".", "..")
)


@given(names)
def test_the_home_that_was_written_is_read_back(name):
    spec = replace(SPEC, home=Path("/srv") / name)
    assert Launchd(spec).home_in(Launchd(spec).text()) == spec.home


def test_the_usual_home_is_read_back_too():
    assert Launchd(SPEC).home_in(Launchd(SPEC).text()) == SPEC.home


@pytest.mark.parametrize(
    "text", [b"", b"<plist>", b"bplist00", b"\xff\xfe", plistlib.dumps({"Label": "another"}), plistlib.dumps([1])]
)
def test_a_description_that_is_not_pylons_has_no_home(text):
    assert Launchd(SPEC).home_in(text) is None


def test_a_path_with_a_control_character_is_refused():
    with pytest.raises(SetupError, match="control character"):
        Launchd(replace(SPEC, home=Path("/srv/a\nb"))).text()
