"""Programs of the system that are asked something."""

import os
import subprocess

# They answer within milliseconds; one that hangs costs its reading.
WITHIN_S = 3.0


def output_of(*command: str) -> str:
    """What a program prints, in the language of its manual. Raises OSError, `subprocess.SubprocessError`."""
    done = subprocess.run(  # noqa: S603 - our own commands
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=WITHIN_S,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return done.stdout.decode("utf-8", "replace")
