"""One life of the inference child, as a process with two pipes."""

import os
import platform
import sys
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from pylon.childprocess import FramedProcess
from pylon.frames import encode
from pylon.inference.child.environment import child_environment
from pylon.inference.child.messages import OUT_OF_MEMORY, FromChild, ToChild, from_child

# -P: a folder called `pylon` where the command happens to be called must not be imported.
COMMAND = (sys.executable, "-P", "-m", "pylon.inference.child.main")


class ChildProcess(FramedProcess):
    CODES: ClassVar = {OUT_OF_MEMORY: "ran out of memory"}

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> "ChildProcess":
        """Raises OSError."""
        return await cls.start(command, child_environment(os.environ, platform.system()))

    def send(self, message: ToChild) -> None:
        """Raises WireError when the message fits no frame."""
        self.send_frame(encode(message))

    async def messages(self) -> AsyncIterator[FromChild]:
        """Until its pipe ends. Raises WireError on anything that is no message."""
        async for frame in self.frames():
            yield from_child(frame)
