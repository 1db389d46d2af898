"""A REPL of each kind, with a context and somebody who answers."""

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from pylon.rlm.repl.backends import PROCESS, wasm
from pylon.rlm.repl.host import ChildRepl
from pylon.rlm.repl.protocol import MIB, CellLimits, ContextFile, ContextSource, SubReply

LIMITS = CellLimits(seconds=20.0, memory_bytes=128 * MIB, output_bytes=100_000, calls=2000)


async def shout(calls):
    return [
        SubReply(f"failed on purpose: {p}", "failed") if "FAIL" in p else SubReply(p.upper()) for p in calls.prompts
    ]


@dataclass
class Place:
    """What the code must not reach."""

    secret_file: Path
    target: Path
    unix_socket: Path
    port: int
    parent_pid: int
    listener: socket.socket


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Where the sandbox's runtime is unpacked, once for all tests of this process."""
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(params=["process", "wasm"])
def backend(request, cache):
    if request.param == "process":
        kernel = pytest.importorskip("pylon.rlm.repl.lock.landlock")
        try:
            kernel.abi()
        except OSError:
            pytest.skip("this kernel has no Landlock")
    return PROCESS if request.param == "process" else wasm(cache)


@pytest.fixture
async def open_repl(backend, tmp_path):
    """Opens REPLs of the backend: `await open_repl(text, limits, on_calls)`."""
    repls = []

    async def open_one(context="some text", limits=LIMITS, on_calls=shout, kind="text", kind_of=None):
        path = tmp_path / f"context-{len(repls)}"
        path.write_text(context, encoding="utf-8")
        repl = ChildRepl(kind_of or backend)
        repls.append(repl)
        await repl.open(ContextSource(kind, (ContextFile("context", path),)), limits, on_calls)
        return repl

    yield open_one
    for repl in repls:
        await repl.close()
