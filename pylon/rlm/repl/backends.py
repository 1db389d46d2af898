"""The sandboxes that a REPL can run in, and the choice of one that works on this machine."""

import tempfile
from pathlib import Path
from typing import Literal

from pylon.errors import SandboxError
from pylon.rlm.repl import known
from pylon.rlm.repl.host import ChildRepl
from pylon.rlm.repl.life import Backend
from pylon.rlm.repl.protocol import MIB, CellLimits, ContextFile, ContextSource, SubCalls, SubReply

type Setting = Literal["auto", "wasm", "process"]

PROCESS = Backend("process", "pylon.rlm.repl.locked_child", (), interrupts=True, threads=True, overhead_bytes=None)
# No sandbox at all: the code may do whatever the user may. Only chosen by --unsafe-local-repl.
UNSAFE = Backend(
    "unsafe", "pylon.rlm.repl.locked_child", ("--unlocked",), interrupts=True, threads=True, overhead_bytes=None
)

_NAMES = {"wasm": ("wasm",), "process": ("process",), "auto": ("wasm", "process")}
# A cell that tries what a sandbox must not allow, and answers with what it could do.
_FORBIDDEN = """
import os, socket
held = []
for what, act in (
    ("read a file", lambda: open(__import__("sys").executable, "rb").read(1) or 1 / 0),
    ("write a file", lambda: open("self-test", "w")),
    ("open a socket", lambda: socket.create_connection(("127.0.0.1", 9), 1)),
    ("start a process", lambda: os.fork() or os._exit(0)),
):
    try:
        act()
        held.append(what)
    except ConnectionRefusedError:
        held.append(what)
    except Exception:
        pass
answer["content"] = llm_query("ready") + ";" + ",".join(held)
"""


def wasm(cache: Path) -> Backend:
    """The WebAssembly sandbox.

    `cache` is a folder that only its user may enter: the runtime, which is native code, is unpacked there once and
    loaded from there at each start.
    """
    module = "pylon.rlm.repl.wasm_child"
    return Backend(
        "wasm", module, (str(cache.absolute()),), interrupts=False, threads=False, overhead_bytes=512 * MIB
    )


async def choose(setting: Setting = "auto", *, cache: Path, unsafe: bool = False) -> Backend:
    """The first backend that passes its self-test, or that is recorded to have passed it.

    `unsafe` is the user's explicit wish for no sandbox; `cache` is the folder that `wasm` takes. Raises SandboxError
    if no backend passes: a model's code never runs without a sandbox unless the user says so.
    """
    if unsafe:
        return UNSAFE
    reasons: list[str] = []
    tested = known.passed(cache)
    for name in _NAMES[setting]:
        backend = wasm(cache) if name == "wasm" else PROCESS
        if name in tested:
            return backend
        reason = await self_test(backend)
        if not reason:
            known.remember(cache, name)
            return backend
        reasons.append(f"{backend.name}: {reason.removesuffix('.')}")
    raise SandboxError(
        f"no sandbox works on this machine ({'; '.join(reasons)})",
        hint=(
            "Use the strategy map-reduce (`--strategy`), which runs no code of a root model. Or run "
            "code without a sandbox: `pylon rlm ask --unsafe-local-repl`."
        ),
    )


async def self_test(backend: Backend) -> str:
    """Starts a sandbox and runs code in it that tries what is forbidden.

    Returns why the sandbox cannot be used, an empty text if it can.
    """
    with tempfile.TemporaryDirectory(prefix="pylon-repl-test-") as folder:
        file = Path(folder) / "context"
        file.write_text("self-test", encoding="utf-8")
        repl = ChildRepl(backend)
        try:
            source = ContextSource("text", (ContextFile("context", file),))
            await repl.open(source, CellLimits(seconds=20.0, calls=1), _echo)
            outcome = await repl.run(_FORBIDDEN)
        except SandboxError as error:
            return str(error)
        finally:
            await repl.close()
    if outcome.error is not None:
        return outcome.error.text
    said, _, held = (outcome.answer.content if outcome.answer else "").partition(";")
    if said != "ready":
        return "its sub-calls do not come through"
    return f"it does not hold: code could {held}" if held else ""


async def _echo(calls: SubCalls) -> list[SubReply]:
    return [SubReply(prompt) for prompt in calls.prompts]
