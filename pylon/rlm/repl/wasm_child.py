"""The main module of the wasm sandbox: a process that runs CPython in WebAssembly.

It passes messages on without reading them: what the guest writes goes to the host's pipe as it is, and each message
from the host becomes a file for the guest. Started as `python -P -m pylon.rlm.repl.wasm_child CACHE`, in a folder of
its own.
"""

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path

import eryx
import orjson

from pylon.frames import FrameDecoder
from pylon.rlm.repl.pipes import READ_BYTES, first_messages, private_pipes, write_all
from pylon.rlm.repl.protocol import MIB
from pylon.rlm.repl.wasm_program import program

# What the interpreter itself takes of the WebAssembly memory.
_INTERPRETER_BYTES = 64 * MIB
# How much more memory loading a context takes than its text: decoding holds it twice, JSON's objects take more.
_CONTEXT_GROWTH = 4


class Replies:
    """The messages for the guest, as numbered files that appear only when they are complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Files that an earlier child in this folder has left must not be read by this one.
        for leftover in folder.iterdir():
            leftover.unlink()
        self._written = 0
        self._removed = 0
        self._read = 0

    def write(self, message: dict[str, object]) -> None:
        draft = self._folder / "draft"
        draft.write_bytes(orjson.dumps(message))
        self._written += 1
        draft.rename(self._folder / str(self._written))
        if message["type"] == "run":
            # The cell before has ended, so the guest has read all up to the message that began it, in order. A reply
            # that came too late for that cell may still wait to be read.
            self._remove()
            self._read = self._written

    def _remove(self) -> None:
        for number in range(self._removed + 1, self._read + 1):
            (self._folder / str(number)).unlink(missing_ok=True)
        self._removed = self._read


def main() -> None:
    # The guest's own descriptors 0 and 1 are this process's: they lead nowhere.
    source, sink = private_pipes()
    folder = Path.cwd()
    decoder = FrameDecoder()
    messages = first_messages(source, decoder)
    replies = Replies(folder / "replies")
    hello = messages[0]
    for message in messages:
        replies.write(message)
    threading.Thread(target=_carry, args=(source, decoder, replies), daemon=True, name="pipe").start()
    runtime = _runtime(Path(sys.argv[1]))
    sandbox = eryx.Sandbox(
        resource_limits=eryx.ResourceLimits(
            execution_timeout_ms=None,
            callback_timeout_ms=None,
            max_callback_invocations=0,
            max_memory_bytes=_memory_bytes(hello),
            max_vfs_bytes=MIB,
        ),
        volumes=[(str(folder / name), f"/{name}", True) for name in ("context", "replies")],
        on_stdout=lambda data: _write(sink, data),
        on_stderr=lambda _: None,
    )
    try:
        sandbox.execute(program(runtime))
    except eryx.EryxError as error:
        print(str(error)[-2000:], file=sys.stderr, flush=True)  # noqa: T201
    # Reached only when the guest has failed. Threads of the runtime may still run and are not waited for.
    os._exit(1)


def _runtime(cache: Path) -> Path:
    """The folder where this version of the runtime is unpacked at its first start: 60 MB in a thousand files."""
    folder = cache / f"eryx-{eryx.__version__}"
    if not folder.exists():
        # Another process may make the folder at the same time.
        for former in set(cache.glob("eryx-*")) - {folder}:
            shutil.rmtree(former, ignore_errors=True)
        folder.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(folder)
    return folder


def _memory_bytes(hello: dict[str, object]) -> int:
    asked, context = hello["memory_bytes"], hello["context_bytes"]
    if not isinstance(asked, int) or not isinstance(context, int):
        raise TypeError("memory_bytes and context_bytes must be integers")
    return min(_INTERPRETER_BYTES + asked + _CONTEXT_GROWTH * context, 2**32 - 65_536)


def _carry(source: int, decoder: FrameDecoder, replies: Replies) -> None:
    while data := os.read(source, READ_BYTES):
        for message in decoder.feed(data):
            replies.write(message)
    # The host is gone, and the guest may be computing something that nobody waits for.
    os._exit(0)


def _write(sink: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        write_all(sink, data)


if __name__ == "__main__":
    main()
