import ast
import json
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pylon import log
from pylon.errors import RelayError

STEERING = "\x1b[2J\nforged line \u202e"


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    root = logging.getLogger("pylon")
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def written(tmp_path: Path) -> Path:
    file = tmp_path / "logs" / "pylon.log"
    log.configure("info", file=file, stderr=False)
    return file


def test_an_event_is_one_line_with_its_values(written: Path) -> None:
    log.get("provider").info("job signed", job="ab12", ms=3)
    [line] = written.read_text().splitlines()
    assert line.endswith("Z [info     ] job signed job=ab12 ms=3")


def test_what_is_below_the_level_is_not_written(written: Path) -> None:
    log.get("provider").debug("nothing of weight")
    assert written.read_text() == ""


def test_a_strangers_text_neither_ends_the_line_nor_steers_the_terminal(written: Path) -> None:
    log.get("provider").warning("said", error=STEERING, half="\ud800")
    [line] = written.read_text().splitlines()
    assert line.isprintable()


def test_a_traceback_follows_the_event_of_an_error(written: Path) -> None:
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        log.get("inference").error("it failed", exc_info=error)
    assert written.read_text().endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(("error", "traced"), [(KeyError("a bug"), True), (RelayError("said no"), False)])
def test_what_failed_brings_its_traceback_unless_it_is_an_error_that_says_all(
    written: Path, error: Exception, traced: bool
) -> None:
    try:
        raise error
    except Exception as caught:
        log.get("swarm").failed("it failed", caught, job="ab12")
    said = written.read_text()
    assert f'it failed error="{error!r}" job=ab12' in said.splitlines()[0]
    assert ("Traceback" in said) is traced


def test_no_error_is_logged_as_its_bare_name() -> None:
    """Its traceback is lost with that: `failed` keeps it."""
    package = Path(log.__file__).parent
    bare = [
        f"{path.relative_to(package)}:{call.lineno}"
        for path in package.rglob("*.py")
        if path != Path(log.__file__)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "error"
        if any(given.arg == "error" and ast.unparse(given.value).startswith("repr(") for given in call.keywords)
    ]
    assert bare == []


def test_a_json_line_holds_event_level_time_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", json_lines=True)
    log.get("provider").info("job signed", job="ab12", error=STEERING, half="\ud800", path=Path("/x"))
    said = json.loads(capsys.readouterr().err)
    assert said.pop("timestamp").endswith("Z")
    assert said == {
        "event": "job signed",
        "level": "info",
        "job": "ab12",
        "error": STEERING,
        "half": "\ud800",
        "path": repr(Path("/x")),
    }


def test_the_file_is_for_its_owner_alone(written: Path) -> None:
    assert written.parent.stat().st_mode & 0o777 == 0o700


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_that_a_full_disk_refuses_are_lost_quietly_and_counted_once_it_has_room(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.get("provider").info("before")
    with no_room_beyond(written.stat().st_size):
        for number in range(300):
            log.get("provider").info("job signed", number=number)
    assert capsys.readouterr().err == ""
    for name in ("again", "and again"):
        log.get("provider").info(name)
    lines = written.read_text().splitlines()
    assert [line.split("] ")[1] for line in lines] == [
        "before",
        "again",
        "this log could not be written for a while lost=300",
        "and again",
    ]
