"""Live money: allowed only for the key of one home, by a person who typed the caps.

It takes `network = "mainnet"`, and the permission file that `pylon wallet go-live` writes beside the key. The file
names the key and the caps. It is void for another key, and with caps that nobody could have typed. A file named
`STOP` in PYLON_HOME halts all spending on every network at once.
"""

import os
from collections.abc import Mapping
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
    """The spending limits on a network; `allowed` is the permission for live money, None without one."""
    return (allowed or FIRST).caps if network.is_live else PLAY_CAPS


def need_mainnet(home: Home) -> None:
    """Raises `UsageError` on a network whose money is not live."""
    if not Network(home.network).is_live:
        raise UsageError(
            f"this home is on {home.network}, which is not live money",
            hint=('Set `network = "mainnet"` in config.toml first, then run `pylon init`: mainnet has its own key.'),
        )


def proposed(allowed: Agreed | None, named: Mapping[str, int], *, by_person: bool) -> Agreed | None:
    """The caps for `allow`, given those that are allowed now; None if the same ones are.

    `named` are new ones by name, in sats; a cap that is not named stays, or is the first one. `by_person` says that
    they will be typed in a terminal; without it, caps above the first ones raise `UsageError`, as do caps that cannot
    be agreed.
    """
    wanted = Agreed(**{**(allowed or FIRST).as_dict(), **named})
    if wanted == allowed:
        return None
    if wanted.exceeds(FIRST) and not by_person:
        raise UsageError(
            "caps above the initial ones must be typed by a person in a terminal; nothing was changed",
            hint=f"Run this in a terminal, or stay within {FIRST.in_words}.",
        )
    return wanted


def allow(home: Home, public: str, wanted: Agreed, typed: str) -> None:
    """Writes the permission, and replaces an older one. `typed` must hold the three caps of `wanted`, in sats: for a
    payment, for a day, and in all.

    Raises `UsageError` and changes nothing on another network, or if anything else was typed.
    """
    need_mainnet(home)
    if typed.replace(",", "").split() != [str(sats) for sats in wanted.as_dict().values()]:
        raise UsageError(
            "the numbers do not match the caps; nothing was changed", hint="Type the three numbers as shown."
        )
    write_whole(home.folder / LIVE_FILE, orjson.dumps({"key": public, "caps_sat": wanted.as_dict()}) + b"\n")


def withdraw(home: Home) -> None:
    """Removes the permission; a running node obeys at once."""
    (home.folder / LIVE_FILE).unlink(missing_ok=True)


def permission(home: Home, public: str) -> Agreed | None:
    """The permission of this public key to use live money, with its caps; None without one. Raises `SetupError` for a
    file that other users can write."""
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
    """Whether this public key has a permission. Raises `SetupError` as `permission` does."""
    return permission(home, public) is not None


class Allowance:
    """What the key of a home may spend now. The file is read for each payment, so that a lowered cap or a withdrawn
    permission holds at once."""

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
        """The spending limits, as they are now."""
        return caps(self.network, self._permission())

    def _permission(self) -> Agreed | None:
        # Other networks need no permission, and this is read for every job.
        if not self.network.is_live:
            return None
        try:
            return permission(self._home, self._public)
        except (SetupError, OSError):
            # A file that other users can write, or that cannot be read, allows nothing.
            return None


def is_stopped(root: Path) -> bool:
    """Whether there is a file `STOP` in PYLON_HOME; True also if that cannot be told."""
    try:
        (root / STOP_FILE).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
