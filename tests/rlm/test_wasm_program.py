"""The wasm sandbox's guest is compiled once, and what is kept of it is never taken for what it is not."""

import asyncio
import subprocess
import sys

import eryx
import pytest

from pylon.rlm.repl import wasm_program
from pylon.rlm.repl.backends import wasm
from pylon.rlm.repl.host import ChildRepl
from pylon.rlm.repl.protocol import CellLimits, ContextFile, ContextSource
from pylon.rlm.repl.wasm_child import Replies


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """Where this process unpacks the runtime for itself, which finds it there for as long as the process lives. Not
    where sandboxes of other tests do: the first of them clears that folder of what other versions left.
    """
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(autouse=True)
def runtime(unpacked, monkeypatch):
    """Nothing is loaded from where others may have put it before."""
    monkeypatch.setenv("TMPDIR", str(unpacked))


ENDED = "\nmain()\n"


def starts(program):
    """Whether the guest's modules come to life from it."""
    assert program.endswith(ENDED)
    code = program.removesuffix(ENDED) + "\nimport pylon_guest.session as s\nprint(s.Session.__name__, s.__file__)"
    return eryx.Sandbox().execute(code).stdout.strip() == b"Session <pylon pylon_guest.session>"


def test_a_reply_that_came_too_late_for_its_cell_is_there_until_the_next_one_has_ended(tmp_path):
    replies = Replies(tmp_path)

    def kept():
        return sorted(file.name for file in tmp_path.iterdir())

    for kind in ("open", "run", "reply", "reply", "run"):
        replies.write({"type": kind})
    # The guest reads in order, and a missing number would hold it up for good.
    assert kept() == ["3", "4", "5"]
    replies.write({"type": "run"})
    assert kept() == ["6"]


def test_the_guest_is_compiled_once(tmp_path, monkeypatch):
    first = wasm_program.program(tmp_path)
    assert starts(first)
    monkeypatch.setattr(wasm_program, "_compiled", pytest.fail)
    assert wasm_program.program(tmp_path) == first


@pytest.mark.parametrize(
    "harm", [lambda data: data[:-9], lambda data: b"", lambda data: data[:40] + b"x" + data[41:]]
)
def test_bytecode_that_was_harmed_is_made_anew(tmp_path, harm):
    first = wasm_program.program(tmp_path)
    (kept,) = tmp_path.glob("*.bytecode")
    whole = kept.read_bytes()
    kept.write_bytes(harm(whole))
    assert wasm_program.program(tmp_path) == first and kept.read_bytes() == whole


def test_other_sources_are_compiled_again(tmp_path, monkeypatch):
    wasm_program.program(tmp_path)
    sources = wasm_program._sources()
    name = next(iter(sources))
    monkeypatch.setattr(wasm_program, "_sources", lambda: {**sources, name: (b"# other\n", sources[name][1])})
    made = []
    monkeypatch.setattr(wasm_program, "_compiled", lambda given: made.append(given) or b"made")
    wasm_program.program(tmp_path)
    assert len(made) == 1


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path):
    assert starts(wasm_program.program(tmp_path / "missing"))


def test_the_runtime_of_another_version_goes(tmp_path):
    (tmp_path / "eryx-0.0.1" / "eryx-embedded").mkdir(parents=True)
    code = "import sys, pathlib, pylon.rlm.repl.wasm_child as child; child._runtime(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert [path.name for path in tmp_path.iterdir()] == [f"eryx-{eryx.__version__}"]


async def test_sandboxes_that_start_at_once_in_an_empty_folder_all_work(tmp_path):
    text, empty = tmp_path / "text", tmp_path / "cache"
    text.write_text("some text")
    empty.mkdir()

    async def one():
        repl = ChildRepl(wasm(empty))
        try:
            await repl.open(ContextSource("text", (ContextFile("context", text),)), CellLimits(), nobody)
            return (await repl.run("import textwrap, csv, decimal\nprint(len(context))")).stdout
        finally:
            await repl.close()

    async def nobody(_):
        return []

    assert await asyncio.gather(*(one() for _ in range(4))) == ["9\n"] * 4
