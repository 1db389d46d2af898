"""Keeps the machine awake, by a program of the system that prevents idle sleep for as long as it runs.

Closing the lid or choosing to sleep still puts the machine to sleep.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pylon import log

logger = log.get("host")

_END_S = 2.0


def awake_command() -> tuple[str, ...]:
    """The program, which ends with this process or when its standard input closes. Empty if there is none.

    caffeinate(8); systemd-inhibit(1), which does nothing unless systemd runs the machine.
    """
    if sys.platform == "darwin":
        return ("/usr/bin/caffeinate", "-i", "-w", str(os.getpid()))
    if shutil.which("systemd-inhibit") and Path("/run/systemd/system").is_dir():
        return ("systemd-inhibit", "--what=idle", "--who=Pylon", "--why=A job runs here", "--mode=block", "cat")
    return ()


class Awake:
    """Keeps the machine awake between `hold` and `release`, by `command`.

    None is the program of this system; with an empty one nothing is held.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = awake_command() if command is None else tuple(command)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def held(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and self._process.returncode is None

    async def hold(self) -> None:
        """Keeps the machine awake from now on. Raises nothing, because a machine that sleeps loses no job."""
        if self.held or not self._command:
            return
        if self._process is not None:
            # The program ended by itself: it is not allowed to keep this machine awake, and will not be next time.
            logger.warning(
                "the machine cannot be kept awake", program=self._command[0], code=self._process.returncode
            )
            self._process, self._command = None, ()
            return
        null = asyncio.subprocess.DEVNULL
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=null, stderr=null, start_new_session=True
            )
        except OSError as error:
            logger.warning("the machine cannot be kept awake", program=self._command[0], error=str(error))
            self._command = ()

    async def release(self) -> None:
        """Allows the machine to sleep again."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_S)
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
