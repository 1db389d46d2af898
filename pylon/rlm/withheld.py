"""What of a disk stays out of a context, which goes to strangers: keys and wallet links, Pylon's own homes, and of
folders and patterns hidden files and what is no text. Blocking.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

PDF = b"%PDF-"
# What makes a pattern of a path.
SIGNS = "*?["
_PIECE = 1 << 20
_SNIFF = 8_192
_CONFIG = "config.toml"
# Keys (NIP-19, NIP-49) and wallet links (NIP-47), in whatever case and wherever a line holds them.
_SECRETS = re.compile(
    rb"nsec1[02-9ac-hj-np-z]{58}|ncryptsec1[02-9ac-hj-np-z]{58}|nostr\+walletconnect:(?://)?[0-9a-f]{64}"
)
_SIGNS_OF_SECRETS = (b"sec1", b"walletconnect:")
# What stands across two pieces is found when the second begins with so much of the first: no secret is longer.
_LONGEST = 256


def text_files(folder: Path) -> tuple[list[tuple[str, Path]], int]:
    """The text files below a folder, by their path in it, in order; hidden ones and links are passed over."""
    found: list[tuple[str, Path]] = []
    skipped = 0
    for root, folders, names in os.walk(folder):
        if _CONFIG in names and is_home(Path(root)):
            folders.clear()
            skipped += len(names)
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            if is_text(path) and not is_secret(path):
                found.append((str(path.relative_to(folder)), path))
            else:
                skipped += 1
    return found, skipped


def is_hidden_from(match: Path, pattern: str) -> bool:
    """Whether it is hidden, and the pattern does not ask for what is."""
    wanted = Path(pattern).parts
    # What comes before the first sign was named, whatever it is.
    named = next((n for n, part in enumerate(wanted) if any(sign in part for sign in SIGNS)), len(wanted))
    return not any(map(_hides, wanted[named:])) and any(map(_hides, match.parts[named:]))


def _hides(part: str) -> bool:
    return part.startswith(".") and part not in (".", "..")


def is_kept_back(path: Path, is_home_here: Callable[[Path], bool]) -> bool:
    """Whether it holds a secret, or stands in a home; `is_home_here` is `is_home`, or remembers what that said."""
    return is_secret(path) or any(map(is_home_here, path.absolute().parents))


def is_home(folder: Path) -> bool:
    """Whether Pylon keeps keys here: `config.toml`, and an identity for each network that was used."""
    return (folder / _CONFIG).is_file() and any(map(is_secret, folder.glob("*/identity")))


def is_secret(path: Path) -> bool:
    """Whether a key or a wallet's link stands anywhere in it."""
    try:
        with path.open("rb") as file:
            before = b""
            while piece := file.read(_PIECE):
                if _holds_secret(before + piece):
                    return True
                before = piece[-_LONGEST:]
    except OSError:
        return False
    return False


def _holds_secret(data: bytes) -> bool:
    # Whole texts go through here, and a pattern takes ten times as long to find nothing.
    small = data.lower()
    return any(sign in small for sign in _SIGNS_OF_SECRETS) and _SECRETS.search(small) is not None


def is_text(path: Path) -> bool:
    """By how it begins."""
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFF)
    except OSError:
        return False
    return b"\0" not in start and not start.startswith(PDF)
