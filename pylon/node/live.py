"""Live money: allowed for the key of one home, by a person who typed the caps, and by nothing else.

Two things are needed, `network = "mainnet"` and the permission that `pylon wallet go-live` writes beside the key. It
names the key and the caps that were typed: a copied home, another key or a release with larger caps has no
permission. A file named `STOP` in PYLON_HOME halts all spending on every network at once.
"""

import os
from pathlib import Path

import orjson

from pylon.errors import SetupError, UsageError
from pylon.files import write_whole
from pylon.money.limits import FIRST_LIVE_CAPS, PLAY_CAPS, Caps
from pylon.money.network import Network
from pylon.node.home import Home

LIVE_FILE = "live.json"
STOP_FILE = "STOP"
_MOST_BYTES = 4_096


def caps(network: Network) -> Caps:
    """The most that may be spent on a network."""
    return FIRST_LIVE_CAPS if network.is_live else PLAY_CAPS


def terms() -> dict[str, int]:
    """The live caps that a person agrees to, in whole sats."""
    return {name: getattr(FIRST_LIVE_CAPS, name).whole_sats() for name in ("payment", "day", "all")}


def need_mainnet(home: Home) -> None:
    """Raises `UsageError` on a network whose money is not live."""
    if not Network(home.network).is_live:
        raise UsageError(
            f"this home is on {home.network}, which is not live money",
            hint='Set `network = "mainnet"` in config.toml first, and run `pylon init`: it has a key of its own.',
        )


def allow(home: Home, public: str, typed: str) -> None:
    """Writes the permission. `typed` is a payment's, a day's and the total cap, as `terms` has them, in that order.

    Raises `UsageError` on another network, and when anything else was typed: then nothing is changed.
    """
    need_mainnet(home)
    if typed.replace(",", "").split() != [str(sats) for sats in terms().values()]:
        raise UsageError("those are not the caps: live money is not allowed", hint="Type the three numbers as shown.")
    write_whole(home.folder / LIVE_FILE, orjson.dumps({"key": public, "caps_sat": terms()}) + b"\n")


def withdraw(home: Home) -> None:
    """Takes the permission back; a node that runs notices at its next start."""
    (home.folder / LIVE_FILE).unlink(missing_ok=True)


def is_allowed(home: Home, public: str) -> bool:
    """Whether this key may make, accept and pay invoices of live money. Raises `SetupError` on a file that others
    may write."""
    path = home.folder / LIVE_FILE
    try:
        status = path.stat()
        raw = path.read_bytes()[:_MOST_BYTES]
    except FileNotFoundError:
        return False
    if status.st_mode & 0o022 or status.st_uid != os.getuid():
        raise SetupError(f"others may write {path}", hint="Remove it, and run `pylon wallet go-live` again.")
    try:
        said = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return Network(home.network).is_live and said == {"key": public, "caps_sat": terms()}


def is_stopped(root: Path) -> bool:
    """Whether `STOP` lies in PYLON_HOME. What cannot be told counts as yes."""
    try:
        (root / STOP_FILE).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
