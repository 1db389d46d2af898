"""Live money: allowed for the key of one home, by a person who typed the caps, and by nothing else.

Two things are needed, `network = "mainnet"` and the permission that `pylon wallet go-live` writes beside the key. It
names the key and the caps that were typed, which are the ones that hold: a copied home or another key has no
permission, nor has a file whose caps nobody could have typed. A file named `STOP` in PYLON_HOME halts all spending on
every network at once.
"""

import os
from functools import partial
from pathlib import Path

import orjson

from pylon.errors import SetupError, UsageError
from pylon.files import write_whole
from pylon.money.limits import PLAY_CAPS, Caps
from pylon.money.network import Network
from pylon.money.payments.agreed import FIRST, Agreed
from pylon.node.home import Home

LIVE_FILE = "live.json"
STOP_FILE = "STOP"
_MOST_BYTES = 4_096


def caps(network: Network, allowed: Agreed | None) -> Caps:
    """The most that may be spent on a network. Of live money nothing is spent that was not `allowed`."""
    return (allowed or FIRST).caps if network.is_live else PLAY_CAPS


def need_mainnet(home: Home) -> None:
    """Raises `UsageError` on a network whose money is not live."""
    if not Network(home.network).is_live:
        raise UsageError(
            f"this home is on {home.network}, which is not live money",
            hint=('Set `network = "mainnet"` in config.toml first, then run `pylon init`: mainnet has its own key.'),
        )


def allow(home: Home, public: str, wanted: Agreed, typed: str) -> None:
    """Writes the permission, over an older one. `typed` are the caps of `wanted`: of a payment, a day and in all.

    Raises `UsageError` on another network, and when anything else was typed: then nothing is changed.
    """
    need_mainnet(home)
    if typed.replace(",", "").split() != [str(sats) for sats in wanted.as_dict().values()]:
        raise UsageError(
            "the numbers do not match the caps; nothing was changed", hint="Type the three numbers as shown."
        )
    write_whole(home.folder / LIVE_FILE, orjson.dumps({"key": public, "caps_sat": wanted.as_dict()}) + b"\n")


def withdraw(home: Home) -> None:
    """Takes the permission back, of a node that runs too."""
    (home.folder / LIVE_FILE).unlink(missing_ok=True)


def permission(home: Home, public: str) -> Agreed | None:
    """The caps up to which this key may pay live money, and with which it may make and accept invoices of it; None
    without a permission. Raises `SetupError` on a file that others may write."""
    path = home.folder / LIVE_FILE
    try:
        status = path.stat()
        raw = path.read_bytes()[:_MOST_BYTES]
    except FileNotFoundError:
        return None
    if status.st_mode & 0o022 or status.st_uid != os.getuid():
        raise SetupError(f"other users can write to {path}", hint="Remove it, and run `pylon wallet go-live` again.")
    if not Network(home.network).is_live:
        return None
    try:
        said = orjson.loads(raw)
        wanted = Agreed(**said["caps_sat"])
    except (orjson.JSONDecodeError, KeyError, TypeError, UsageError):
        return None
    return wanted if said == {"key": public, "caps_sat": wanted.as_dict()} else None


def is_allowed(home: Home, public: str) -> bool:
    """Whether there is a permission. Raises `SetupError` as it does."""
    return permission(home, public) is not None


class Allowance:
    """What the key of a home may spend, as it is now: the file is read whenever money is to move, so that a cap that
    was lowered and a permission that was taken back hold at once, whoever changed them."""

    def __init__(self, home: Home, public: str) -> None:
        self.network = Network(home.network)
        self.stopped = partial(is_stopped, home.root)
        self._home = home
        self._public = public

    @property
    def live(self) -> bool:
        """Whether live money is allowed."""
        return self._permission() is not None

    @property
    def caps(self) -> Caps:
        """The most of each."""
        return caps(self.network, self._permission())

    def _permission(self) -> Agreed | None:
        # Of other money none is needed, and every job asks.
        if not self.network.is_live:
            return None
        try:
            return permission(self._home, self._public)
        except (SetupError, OSError):
            # What others may write, or nobody can read, allows nothing.
            return None


def is_stopped(root: Path) -> bool:
    """Whether `STOP` lies in PYLON_HOME. What cannot be told counts as yes."""
    try:
        (root / STOP_FILE).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
