"""Who belongs to the household, as a file of the home: `household.json`.

The head is the machine that invites; its list counts, and every other member keeps a copy. One process writes the
file, the one that holds the home's lock; others (a relay beside the node) read it, and see a change at once.
"""

import time
from collections.abc import Container
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson

from pylon.errors import SetupError
from pylon.files import write_whole
from pylon.nostr.event import is_hex64
from pylon.sections import DEFAULT_RELAY

FILE = "household.json"
MOST_MEMBERS = 100
MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Guest:
    """An invite that is out: until when it opens the relay's door, and who has used it."""

    expires_at: int
    member: str = ""


@dataclass(frozen=True, slots=True)
class Household:
    """`members` are names by public key, the head's among them; `guests` invites by their public key.

    `updated_at` is the head's `created_at` of the list, Unix seconds: an older list changes nothing.
    """

    head: str
    relays: tuple[str, ...] = ()
    members: dict[str, str] = field(default_factory=dict)
    guests: dict[str, Guest] = field(default_factory=dict)
    updated_at: int = 0

    def with_member(self, key: str, name: str) -> "Household":
        """With one more. Raises `SetupError` when it is full."""
        if key not in self.members and len(self.members) >= MOST_MEMBERS:
            raise SetupError(f"a household has at most {MOST_MEMBERS} members")
        return replace(self, members={**self.members, key: name})

    def without_member(self, key: str) -> "Household":
        return replace(self, members={k: name for k, name in self.members.items() if k != key})

    def with_guest(self, key: str, guest: Guest) -> "Household":
        return replace(self, guests={**self.guests, key: guest})

    def without_old_guests(self, now: float, *keys: str) -> "Household":
        """Without invites that have ended, and without these."""
        kept = {k: guest for k, guest in self.guests.items() if guest.expires_at > now and k not in keys}
        return replace(self, guests=kept)


class HouseholdFile:
    """The file, read anew when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._stamp: tuple[int, int] | None = None
        self._known: Household | None = None

    def get(self) -> Household | None:
        """The household, or None outside of one. Raises `SetupError` for a file that cannot be read."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._stamp = self._known = None
            return None
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._known, self._stamp = _load(self._path), stamp
        return self._known

    def save(self, household: Household) -> None:
        """Replaces the file in one step, for its owner's eyes only."""
        write_whole(self._path, orjson.dumps(asdict(household), option=orjson.OPT_INDENT_2))

    def forget(self) -> None:
        """Removes the file: the home is in no household."""
        self._path.unlink(missing_ok=True)


def _load(path: Path) -> Household:
    try:
        raw = orjson.loads(path.read_bytes())
        household = Household(
            raw["head"],
            tuple(raw["relays"]),
            dict(raw["members"]),
            {key: Guest(**guest) for key, guest in raw["guests"].items()},
            int(raw["updated_at"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SetupError(
            f"{path} cannot be read: {error}", hint="Move the file away and join the household again."
        ) from error
    if not all(map(is_hex64, (household.head, *household.members, *household.guests))):
        raise SetupError(
            f"{path} contains an invalid public key", hint="Move the file away and join the household again."
        )
    return household


@dataclass(frozen=True, slots=True)
class Trusted(Container[str]):
    """Keys that are served without charge and limits: one's own, those of the settings, the household's."""

    own: frozenset[str]
    file: HouseholdFile

    def __contains__(self, key: object) -> bool:
        if key in self.own:
            return True
        household = self.file.get()
        return household is not None and key in household.members


@dataclass(frozen=True, slots=True)
class Door(Container[str]):
    """Keys that the household's relay is open to: members, and invites that have not ended."""

    file: HouseholdFile

    def __contains__(self, key: object) -> bool:
        household = self.file.get()
        if household is None or not isinstance(key, str):
            return False
        guest = household.guests.get(key)
        return key in household.members or (guest is not None and guest.expires_at > time.time())


def relay_urls(configured: list[str], household: Household | None, own: str, hub: str = "") -> list[str]:
    """Where a node reads and writes. A member adds the household's relays to those of its settings.

    The default relay is this machine's own: a member that runs none has no use for it, and for a head that does it is
    `hub`, wherever that listens.
    """
    if household is None or household.head == own:
        return list(dict.fromkeys(hub if hub and url == DEFAULT_RELAY else url for url in configured))
    return list(dict.fromkeys([*household.relays, *(url for url in configured if url != DEFAULT_RELAY)]))
