"""The node's key on disk: a file of one line, `nsec1…`, or `ncryptsec1…` when a passphrase protects it (NIP-49)."""

import os
from pathlib import Path

from pylon.errors import SetupError, WireError
from pylon.nostr import nip06, nip19, nip49
from pylon.nostr.keys import SecretKey

PASSPHRASE_VARIABLE = "PYLON_PASSPHRASE"  # noqa: S105 - the variable's name, not its value

_PROTECTED = b"ncryptsec1"


def create(path: Path, *, passphrase: str = "") -> SecretKey:
    """A new key, written to `path`. Raises `SetupError` when there is one already."""
    secret = SecretKey.generate()
    write(path, secret, passphrase=passphrase)
    return secret


def write(path: Path, secret: SecretKey, *, passphrase: str = "") -> None:
    """Writes a key (mode 0600); never over another one. Raises `SetupError`."""
    if path.is_dir() or not path.parent.is_dir():
        raise SetupError(f"{path} is no file in a folder that exists", hint="Name the file that the key goes to.")
    line = nip49.encrypt(secret, passphrase) if passphrase else nip19.nsec(secret)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise SetupError(
            f"there is a key in {path} already", hint="Move that file away first; a key that is lost stays lost."
        ) from error
    with os.fdopen(file, "w", encoding="ascii") as stream:
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def is_protected(path: Path) -> bool:
    """Whether the file that is there holds its key under a passphrase."""
    with path.open("rb") as stream:
        return stream.read(len(_PROTECTED)) == _PROTECTED


def load(path: Path, passphrase: str | None = None) -> SecretKey:
    """The key in `path`. The passphrase comes as an argument or from PYLON_PASSPHRASE. Raises `SetupError`."""
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise SetupError(
            f"there is no key in {path}", hint="Run `pylon init`, or `pylon identity restore`."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"the key in {path} cannot be read", hint="Restore it from a backup.") from error
    if mode & 0o077:
        raise SetupError(
            f"others may read the key in {path} (mode {mode:04o})",
            hint=f"Run `chmod 600 {path}`, and take a new key if others use this machine.",
        )
    return parse(text, passphrase if passphrase is not None else os.environ.get(PASSPHRASE_VARIABLE))


def parse(text: str, passphrase: str | None = None) -> SecretKey:
    """A key as people hold it: nsec, 64 hex characters, ncryptsec with its passphrase, or a seed phrase (NIP-06).

    Raises `SetupError`, whose message never holds the text.
    """
    text = text.strip()
    try:
        if text.startswith("ncryptsec1"):
            if not passphrase:
                raise SetupError(
                    "this key is protected by a passphrase", hint=f"Set {PASSPHRASE_VARIABLE} to it and try again."
                )
            return nip49.decrypt(text, passphrase)
        if len(text.split()) > 1:
            return nip06.secret_key_from_words(text, passphrase=passphrase or "")
        return nip19.parse_secret_key(text)
    except WireError as error:
        raise SetupError(f"this is not a key that can be used: {error}", hint="Restore it from a backup.") from error
