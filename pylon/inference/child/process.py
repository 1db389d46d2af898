"""The process of one inference child, with its two pipes."""

import os
import platform
import sys
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from pylon.childprocess import FramedProcess
from pylon.frames import encode
from pylon.inference.child.environment import child_environment
from pylon.inference.child.messages import OUT_OF_MEMORY, FromChild, ToChild, from_child

# With -P, so that a folder named `pylon` in the current directory is not imported.
COMMAND = (sys.executable, "-P", "-m", "pylon.inference.child.main")


class ChildProcess(FramedProcess):
    """One inference child."""

    CODES: ClassVar = {OUT_OF_MEMORY: "ran out of memory"}

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> "ChildProcess":
        """Starts a child. Raises OSError."""
        return await cls.start(command, child_environment(os.environ, platform.system()))

    def send(self, message: ToChild) -> None:
        """Sends a message. Raises WireError if it is too large for a frame."""
        self.send_frame(encode(message))

    async def messages(self) -> AsyncIterator[FromChild]:
        """The messages of the child until its pipe closes. Raises WireError on anything else."""
        async for frame in self.frames():
            yield from_child(frame)
