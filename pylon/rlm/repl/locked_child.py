"""The main module of the process sandbox: a Python process that locks itself, then runs the cells it is sent.

Started as `python -P -m pylon.rlm.repl.locked_child`, with a clean environment and two pipes.
"""

import contextlib
import importlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from pylon.errors import PylonError
from pylon.frames import FrameDecoder, encode
from pylon.rlm.repl import context
from pylon.rlm.repl.guest.endings import CellTime
from pylon.rlm.repl.guest.port import Message, to_bytes
from pylon.rlm.repl.guest.session import Session, not_json, without_memory
from pylon.rlm.repl.pipes import READ_BYTES, first_messages, private_pipes, write_all

_THREAD_STACK_BYTES = 1024 * 1024
# Modules that need shared libraries from outside the standard library's folder, which the lock makes unreadable.
_PRELOADED = ("bz2", "ctypes", "decimal", "hashlib", "lzma", "sqlite3", "zlib", "zoneinfo")
UNLOCKED = "--unlocked"


class PipePort:
    """The guest's port over two pipes. One thread reads them; any thread may ask."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()
        self._waiting: dict[str, queue.SimpleQueue[Message]] = {}
        self.commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
        # A timeout that comes while a frame is being written waits until the frame is complete.
        self.writing = False
        self.interrupted = False

    def read(self) -> None:
        """Reads messages until the pipe ends; then the host is gone, and this process ends too."""
        decoder = FrameDecoder()
        while data := os.read(self._source, READ_BYTES):
            for message in decoder.feed(data):
                waiting = self._waiting.get(str(message.get("id")))
                if waiting is not None:
                    waiting.put(message)
                elif message["type"] != "reply":
                    self.commands.put(message)
        os._exit(0)

    def send(self, message: Message) -> None:
        body = to_bytes(message)
        main = threading.current_thread() is threading.main_thread()
        with self._lock:
            self.writing = main or self.writing
            try:
                write_all(self._sink, len(body).to_bytes(4, "big") + body)
            finally:
                if main:
                    self.writing = False
        if main and self.interrupted:
            self.interrupted = False
            raise CellTime

    def ask(self, requests: Sequence[Message]) -> list[Message]:
        arrived: dict[str, queue.SimpleQueue[Message]] = {one["id"]: queue.SimpleQueue() for one in requests}
        self._waiting |= arrived
        try:
            for request in requests:
                self.send(request)
            return [_whole(arrived[request["id"]]) for request in requests]
        finally:
            for key in arrived:
                self._waiting.pop(key, None)


def _whole(arrived: "queue.SimpleQueue[Message]") -> Message:
    """The reply to a request, put together from its parts."""
    replies: list[Any] = []
    while True:
        message = arrived.get()
        replies += message["replies"]
        if message["last"]:
            return {"replies": replies}


class Runner:
    """Runs cells, and interrupts one when the host sends SIGALRM because its time is over."""

    def __init__(self, port: PipePort, session: Session) -> None:
        self._port = port
        self._session = session
        self._in_cell = False
        signal.signal(signal.SIGALRM, self._time_is_over)

    def _time_is_over(self, _number: int, _frame: FrameType | None) -> None:
        if self._in_cell and self._port.writing:
            self._port.interrupted = True
        elif self._in_cell:
            raise CellTime

    def serve(self) -> None:
        while True:
            message = self._port.commands.get()
            match message["type"]:
                case "run":
                    try:
                        self._port.send(self._run(message))
                    except MemoryError:
                        self._in_cell = False
                        self._port.send(without_memory())
                case "value":
                    self._port.send(self._session.value(message["name"]))

    def _run(self, message: Message) -> Message:
        try:
            self._in_cell = True
            outcome = self._session.run(message["code"], message["output_bytes"], message["calls"])
            self._in_cell = False
        except CellTime:
            # The signal came while the cell's outcome was being put together.
            self._in_cell = False
            return self._session.run("", message["output_bytes"], 0) | {
                "error": {"kind": "time", "text": "The cell's time is over. Its variables are as it left them."}
            }
        return outcome


def main() -> None:
    source, sink = private_pipes()
    port = PipePort(source, sink)
    hello = first_messages(source, FrameDecoder())[0]
    for name in _PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    threading.stack_size(_THREAD_STACK_BYTES)
    try:
        value = context.load(hello["context"], hello["files"])
        if UNLOCKED not in sys.argv:
            # Imported here, since it only works on Linux.
            lock: Any = importlib.import_module("pylon.rlm.repl.lock.confine")
            lock.confine(hello["memory_bytes"])
    except (ValueError, RecursionError) as error:
        os.write(sink, encode(not_json(hello["files"], error)))
        return
    except (PylonError, OSError, MemoryError) as error:
        text, hint = (
            (str(error), error.hint) if isinstance(error, PylonError) else (f"The context is unreadable: {error}", "")
        )
        os.write(sink, encode({"type": "unable", "text": text, "hint": hint}))
        return
    session = Session(port, value, threads=True)
    del value
    threading.Thread(target=port.read, daemon=True, name="pipe").start()
    runner = Runner(port, session)
    port.send({"type": "ready"})
    runner.serve()


if __name__ == "__main__":
    main()
