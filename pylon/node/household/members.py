"""Who belongs to the household, as a file of the home: `household.json`.

The head is the machine that invites. Its list is the valid one; every other member keeps a copy. Only the process
that holds the home's lock writes the file. Others, such as a relay beside the node, read it and see a change at once.
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
    """An invite that was handed out. The relay admits it until `expires_at` (Unix seconds); `member` is the public
    key that used it, or empty."""

    expires_at: int
    member: str = ""


@dataclass(frozen=True, slots=True)
class Household:
    """`members` holds names by public key, the head's too; `guests` holds invites by their public key.

    `updated_at` is the head's `created_at` of the list, Unix seconds: an older list changes nothing.
    """

    head: str
    relays: tuple[str, ...] = ()
    members: dict[str, str] = field(default_factory=dict)
    guests: dict[str, Guest] = field(default_factory=dict)
    updated_at: int = 0

    def with_member(self, key: str, name: str) -> "Household":
        """A copy with this member. Raises `SetupError` when the household is full."""
        if key not in self.members and len(self.members) >= MOST_MEMBERS:
            raise SetupError(f"a household has at most {MOST_MEMBERS} members")
        return replace(self, members={**self.members, key: name})

    def without_member(self, key: str) -> "Household":
        """A copy without this member and the invite that it used, with which it would come back."""
        members = {k: name for k, name in self.members.items() if k != key}
        guests = {k: guest for k, guest in self.guests.items() if guest.member != key}
        return replace(self, members=members, guests=guests)

    def with_guest(self, key: str, guest: Guest) -> "Household":
        return replace(self, guests={**self.guests, key: guest})

    def without_old_guests(self, now: float, *keys: str) -> "Household":
        """A copy without the invites that expired before `now` (Unix seconds), and without those in `keys`."""
        kept = {k: guest for k, guest in self.guests.items() if guest.expires_at > now and k not in keys}
        return replace(self, guests=kept)


class HouseholdFile:
    """Reads and writes the file; reads it again only after it has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._stamp: tuple[int, int] | None = None
        self._known: Household | None = None

    def get(self) -> Household | None:
        """The household, or None if this home is in none. Raises `SetupError` for a file that cannot be read."""
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
        """Replaces the file in one step. Only its owner can read it."""
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
class TrustedKeys(Container[str]):
    """The keys that are served without charge and limits: `own`, and the members of the household."""

    own: frozenset[str]
    file: HouseholdFile

    def __contains__(self, key: object) -> bool:
        if key in self.own:
            return True
        household = self.file.get()
        return household is not None and key in household.members


@dataclass(frozen=True, slots=True)
class AdmittedKeys(Container[str]):
    """The keys that the household's relay admits: members, and invites that have not expired."""

    file: HouseholdFile

    def __contains__(self, key: object) -> bool:
        household = self.file.get()
        if household is None or not isinstance(key, str):
            return False
        guest = household.guests.get(key)
        return key in household.members or (guest is not None and guest.expires_at > time.time())


def relay_urls(configured: list[str], household: Household | None, own: str, hub: str = "") -> list[str]:
    """The relays that a node uses. A member uses the household's relays and those of its settings.

    The default relay is one on this machine: a member leaves it out, and a head uses the address of its own relay,
    `hub`, in its place.
    """
    if household is None or household.head == own:
        return list(dict.fromkeys(hub if hub and url == DEFAULT_RELAY else url for url in configured))
    return list(dict.fromkeys([*household.relays, *(url for url in configured if url != DEFAULT_RELAY)]))
