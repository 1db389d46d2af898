"""A sandbox's child process, to which two pipes lead that carry frames."""

import os
import signal
import sys
from collections.abc import Sequence

from pylon.childprocess import FramedProcess

# All that the child gets of this process's environment, which may hold keys and passphrases.
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")


class SandboxChild(FramedProcess):
    """A child process that runs one of Pylon's sandbox modules."""

    @classmethod
    async def spawn(cls, module: str, arguments: Sequence[str], folder: str) -> "SandboxChild":
        """Starts `module` with `folder` as its working folder and home. Raises OSError."""
        # -P: a folder named `pylon` in the current folder must not be imported.
        command = (sys.executable, "-P", "-m", module, *arguments)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # A run that is resumed or replayed has to meet its sets in the order in which it met them.
        private = {"HOME": folder, "TMPDIR": folder, "PYTHONNOUSERSITE": "1", "PYTHONHASHSEED": "0"}
        return await cls.start(command, environment | private, folder)

    def interrupt(self) -> None:
        """Asks the child to end its cell, whose time is over."""
        self.signal(signal.SIGALRM)
