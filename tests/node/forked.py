"""Pylon's commands as processes that are forked from a server, which has imported what they all import.

A test that starts eight commands would otherwise spend most of its time importing the same libraries eight times.
What runs is the command itself, in a process of its own with the arguments, environment, streams and signals of one
that was executed; only how it began differs. What a process's beginning is about (arguments of the interpreter,
encodings, closed streams, what is imported) is tested on executed ones.
"""

import asyncio
import contextlib
import io
import multiprocessing
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.node.imported"])

# What `start` can give a stream. Whoever wants another one executes the command.
KINDS = (None, PIPE, DEVNULL)


class Forked:
    """The part of `asyncio.subprocess.Process` that tests use."""

    def __init__(
        self, process: Any, stdin: asyncio.StreamWriter | None, *readers: asyncio.StreamReader | None
    ) -> None:
        self.stdin = stdin
        self.stdout, self.stderr = readers
        self._process = process
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(process.sentinel)
            self._ended.set()

        loop.add_reader(process.sentinel, ended)

    @classmethod
    async def start(cls, arguments: Sequence[str], env: Mapping[str, str], kinds: Sequence[int | None]) -> Self:
        """`pylon` with these arguments; `kinds` are those of standard input, output and error."""
        pipes = [_SERVER.Pipe(duplex=False) if kind == PIPE else None for kind in kinds]
        # It reads its input from a pipe, and writes into the others.
        theirs = [pipe[number > 0] if pipe else kinds[number] for number, pipe in enumerate(pipes)]
        stdin, stdout, stderr = (pipe[number == 0] if pipe else None for number, pipe in enumerate(pipes))
        process = _SERVER.Process(target=_become, args=(tuple(arguments), dict(env), theirs))
        process.start()
        for stream in theirs:
            if isinstance(stream, Connection):
                stream.close()
        return cls(
            process,
            None if stdin is None else await _writer(stdin),
            None if stdout is None else await _reader(stdout),
            None if stderr is None else await _reader(stderr),
        )

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def returncode(self) -> int | None:
        code: int | None = self._process.exitcode if self._ended.is_set() else None
        return code

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    async def communicate(self, data: bytes | None = None) -> tuple[bytes, bytes]:
        """Gives it `data`, and returns what it printed once it has ended."""

        async def feed() -> None:
            if self.stdin is not None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.stdin.write(data or b"")
                    await self.stdin.drain()
                self.stdin.close()

        async def read(stream: asyncio.StreamReader | None) -> bytes:
            return b"" if stream is None else await stream.read()

        _, out, err = await asyncio.gather(feed(), read(self.stdout), read(self.stderr))
        await self.wait()
        return out, err

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def _reader(end: Connection) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), _file(end, "rb"))
    return reader


async def _writer(end: Connection) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, _file(end, "wb"))
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _file(end: Connection, mode: str) -> io.IOBase:
    file = os.fdopen(os.dup(end.fileno()), mode, 0)
    end.close()
    return file


def _become(arguments: tuple[str, ...], env: dict[str, str], streams: list[Connection | int | None]) -> None:
    """In the new process: the command, as if it had been executed."""
    for number, stream in enumerate(streams):
        if isinstance(stream, Connection):
            os.dup2(stream.fileno(), number)
            stream.close()
        elif stream == DEVNULL:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, number)
            os.close(nothing)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
        for number, mode in enumerate(("r", "w", "w"))
    )
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["pylon", *arguments]
    from pylon.cli.main import main

    main()
