"""Decides which files stay out of a context, since its text goes to strangers.

These are files with keys or wallet links and Pylon's own homes; of folders and patterns also hidden files and files
that are not text. Blocking.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

PDF = b"%PDF-"
# The characters that make a path a pattern.
SIGNS = "*?["
_PIECE = 1 << 20
_SNIFF = 8_192
_CONFIG = "config.toml"
# Keys (NIP-19, NIP-49) and wallet links (NIP-47), in whatever case and wherever a line holds them.
_SECRETS = re.compile(
    rb"nsec1[02-9ac-hj-np-z]{58}|ncryptsec1[02-9ac-hj-np-z]{58}|nostr\+walletconnect:(?://)?[0-9a-f]{64}"
)
_SIGNS_OF_SECRETS = (b"sec1", b"walletconnect:")
# Each piece is searched together with this many bytes of the one before, so that a secret across both is found. No
# secret is longer.
_LONGEST = 256


def text_files(folder: Path) -> tuple[list[tuple[str, Path]], int]:
    """The text files below a folder with their paths in it, in order, and how many files were left out. Hidden files
    and links are not counted."""
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
    """Whether a match is hidden and the pattern does not ask for hidden files."""
    wanted = Path(pattern).parts
    # The parts of the pattern before its first wildcard were named by the user, hidden or not.
    named = next((n for n, part in enumerate(wanted) if any(sign in part for sign in SIGNS)), len(wanted))
    return not any(map(_hides, wanted[named:])) and any(map(_hides, match.parts[named:]))


def _hides(part: str) -> bool:
    return part.startswith(".") and part not in (".", "..")


def is_kept_back(path: Path, is_home_here: Callable[[Path], bool]) -> bool:
    """Whether a file holds a secret or is in one of Pylon's homes. `is_home_here` is `is_home`, possibly cached."""
    return is_secret(path) or any(map(is_home_here, path.absolute().parents))


def is_home(folder: Path) -> bool:
    """Whether a folder is a home of Pylon, with keys: it has a `config.toml`, and an identity for some network."""
    return (folder / _CONFIG).is_file() and any(map(is_secret, folder.glob("*/identity")))


def is_secret(path: Path) -> bool:
    """Whether a file contains a key or a wallet's link anywhere. False if it cannot be read."""
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
    # Whole texts are searched, and the pattern alone takes ten times as long to find nothing.
    small = data.lower()
    return any(sign in small for sign in _SIGNS_OF_SECRETS) and _SECRETS.search(small) is not None


def is_text(path: Path) -> bool:
    """Whether a file is text, judged by its beginning."""
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFF)
    except OSError:
        return False
    return b"\0" not in start and not start.startswith(PDF)
