"""One life of a sandbox's child process, with two pipes for frames."""

import os
import signal
import sys
from collections.abc import Sequence

from pylon.childprocess import FramedProcess

# Nothing else of this process's environment: keys and passphrases may be in it.
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")


class SandboxChild(FramedProcess):
    @classmethod
    async def spawn(cls, module: str, arguments: Sequence[str], folder: str) -> "SandboxChild":
        """Runs a module of ours in `folder`. Raises OSError."""
        # -P: a folder called `pylon` where the command happens to be called must not be imported.
        command = (sys.executable, "-P", "-m", module, *arguments)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # A run that is resumed or replayed has to meet its sets in the order in which it met them.
        private = {"HOME": folder, "TMPDIR": folder, "PYTHONNOUSERSITE": "1", "PYTHONHASHSEED": "0"}
        return await cls.start(command, environment | private, folder)

    def interrupt(self) -> None:
        self.signal(signal.SIGALRM)
