"""Runs programs of the system for their output."""

import os
import subprocess

# They take milliseconds; the reading of one that hangs is given up.
WITHIN_S = 3.0


def output_of(*command: str) -> str:
    """What a program prints, untranslated (LC_ALL=C). Raises OSError, `subprocess.SubprocessError`."""
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
