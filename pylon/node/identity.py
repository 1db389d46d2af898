"""The node's key on disk: a file of one line, `nsec1…`, or `ncryptsec1…` when a passphrase protects it (NIP-49)."""

import os
import shlex
from pathlib import Path

from pylon.errors import SetupError, WireError
from pylon.files import flush_to_disk
from pylon.node.home import DATABASE
from pylon.nostr.bech32 import nip19, nip49
from pylon.nostr.crypto import nip06
from pylon.nostr.keys import SecretKey

PASSPHRASE_VARIABLE = "PYLON_PASSPHRASE"  # noqa: S105 - the variable's name, not its value

_PROTECTED = b"ncryptsec1"


def create(path: Path, *, passphrase: str = "") -> SecretKey:
    """Creates a key and writes it to `path`. Raises `SetupError` if there is one, or a database that had one."""
    books = path.with_name(DATABASE)
    if books.exists() and not path.exists():
        # Customers' accounts and receipts in the database would not match another key.
        raise SetupError(
            f"there is no key in {path}, but {books} holds the books of one",
            hint=("Restore the key with `pylon identity restore FILE`. To start over, move the database away."),
        )
    secret = SecretKey.generate()
    write(path, secret, passphrase=passphrase)
    return secret


def write(path: Path, secret: SecretKey, *, passphrase: str = "") -> None:
    """Writes a key (mode 0600), with a passphrase as ncryptsec. Never overwrites one. Raises `SetupError`,
    `OSError`."""
    if path.is_dir() or not path.parent.is_dir():
        raise SetupError(f"{path} is not a file in an existing folder", hint="Name the file to write the key to.")
    line = nip49.encrypt(secret, passphrase) if passphrase else nip19.nsec(secret)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        if path.stat().st_size == 0:
            raise _empty(path) from error
        raise SetupError(
            f"{path} already holds a key", hint="Move that file away first. A lost key cannot be recovered."
        ) from error
    try:
        with os.fdopen(file, "w", encoding="ascii") as stream:
            stream.write(line + "\n")
            stream.flush()
            flush_to_disk(stream.fileno())
    except OSError as error:
        # An empty file would prevent the next attempt.
        path.unlink()
        error.filename = error.filename or str(path)
        raise


def is_protected(path: Path) -> bool:
    """Whether the key in the file is protected by a passphrase. Raises `SetupError` for an empty file."""
    with path.open("rb") as stream:
        beginning = stream.read(len(_PROTECTED))
    if not beginning:
        raise _empty(path)
    return beginning == _PROTECTED


def load(path: Path, passphrase: str | None = None) -> SecretKey:
    """The key in `path`. The passphrase is the argument, or PYLON_PASSPHRASE if that is None. Raises `SetupError`."""
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
            f"other users can read the key in {path} (mode {mode:04o})",
            hint=(f"Run `chmod 600 {shlex.quote(str(path))}`, and make a new key if others use this machine."),
        )
    if not text:
        raise _empty(path)
    given = passphrase if passphrase is not None else os.environ.get(PASSPHRASE_VARIABLE)
    return parse(text, given, where=f"the content of {path}")


def parse(
    text: str, passphrase: str | None = None, *, where: str = "this", otherwise: str = "restore it from a backup"
) -> SecretKey:
    """A key in any form that people keep: nsec or 64 hex characters (NIP-19), ncryptsec with its passphrase (NIP-49),
    or a seed phrase (NIP-06).

    Raises `SetupError`. Its message names `where` the text is from, and never contains it; its hint says to do
    `otherwise` what the caller knows to help.
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
        hint = f"{otherwise[:1].upper()}{otherwise[1:]}."
        if text.startswith("ncryptsec1"):
            hint = f"Check {PASSPHRASE_VARIABLE}. If it is right, {otherwise}."
        raise SetupError(f"{where} is not a usable key: {error}", hint=hint) from error


def _empty(path: Path) -> SetupError:
    return SetupError(
        f"{path} is empty",
        hint="If there was a key, restore it from a backup; delete the empty file first.",
    )
