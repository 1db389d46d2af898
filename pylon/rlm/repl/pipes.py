"""The two pipes to the host, in both sandboxes' child processes."""

import os
import sys

from pylon.frames import FrameDecoder
from pylon.rlm.repl.guest.port import Message

READ_BYTES = 65_536


def private_pipes() -> tuple[int, int]:
    """Moves the pipes away from descriptors 0 and 1, which libraries may read from or print to."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return source, sink


def first_messages(source: int, decoder: FrameDecoder) -> list[Message]:
    """The first message that comes, with those that come with it. Ends the process if the host is gone."""
    while data := os.read(source, READ_BYTES):
        if messages := decoder.feed(data):
            return messages
    sys.exit(0)


def write_all(sink: int, data: bytes) -> None:
    """Writes all of the data, whatever part of it a pipe takes at once."""
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]
