"""Whether what this container runs is well: status 0 or 1, for Docker's HEALTHCHECK.

A node is asked over its control socket, a relay and a gateway over HTTP; anything else ends by itself and is well as
long as it runs. Which of them it is stands in the command line of process 1, or in the file that is named.
"""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from pylon import config

ASKED_S = 8.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - not to listen there, but to ask


def main() -> None:
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "/proc/1/cmdline")
    words = file.read_bytes().decode(errors="replace").split("\0")
    known = next((word for word in words if word in ("start", "relay", "gateway")), "")
    if known == "start":
        sys.exit(0 if _serves() else 1)
    if known:
        sys.exit(0 if _answers(_address(known, words)) else 1)


def _serves() -> bool:
    asked = subprocess.run(["pylon", "status", "--json"], capture_output=True, check=False, timeout=ASKED_S)  # noqa: S607
    if asked.returncode:
        return False
    said = json.loads(asked.stdout)
    serves = said["provider"] is not None and said["provider"]["engine"]["state"] != "failed"
    return serves and any(relay["state"] == "open" for relay in said["relays"])


def _address(command: str, words: list[str]) -> str:
    """Where it listens: what it was told, or else what its settings say."""
    settings = config.found_or_default(config.home_directory())
    section = settings.relay if command == "relay" else settings.gateway
    host = _option("--host", words) or section.host
    return f"http://{_ANYWHERE.get(host, host)}:{_option('--port', words) or section.port}/health"


def _option(name: str, words: list[str]) -> str:
    for at, word in enumerate(words):
        if word == name and at + 1 < len(words):
            return words[at + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=ASKED_S) as answer:  # noqa: S310 - http, and of this container
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
