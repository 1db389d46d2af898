"""`pylon identity`: shows the node's key, backs it up and restores it."""

import asyncio
import getpass
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from pylon import config as settings
from pylon.cli import stdin
from pylon.cli.output import out
from pylon.cli.running import Json, fail, print_json
from pylon.errors import PylonError, SetupError, UsageError
from pylon.node import identity as keyfile
from pylon.node.home import Home, open_home
from pylon.node.new_home import make_home
from pylon.nostr.bech32 import nip19

app = typer.Typer(no_args_is_help=True, help="The node's key: show the public key, back it up, restore it.")

MIN_PASSPHRASE = 8
# What a command that asks for a new passphrase does without one.
BARE = "without --passphrase the key is stored unencrypted."


@app.command()
def show(as_json: Json = False) -> None:
    """Show the public key."""
    try:
        home, config = open_home()
        secret = keyfile.load(home.identity_file)
    except PylonError as error:
        fail(error, as_json=as_json)
    npub = nip19.npub(secret.public)
    if as_json:
        print_json({"npub": npub, "public_key": secret.public, "network": config.network})
    else:
        out.print(f"{npub}\n  hex     {secret.public}\n  network {config.network}\n  file    {home.identity_file}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write. It must not exist yet.")],
    plain: Annotated[bool, typer.Option("--plain", help="Write the key unencrypted, without a passphrase.")] = False,
    as_json: Json = False,
) -> None:
    """Write the key to a file, encrypted with a passphrase (NIP-49, `ncryptsec1…`).

    The command asks for the passphrase, or takes it from PYLON_PASSPHRASE.
    """
    try:
        home, _ = open_home()
        secret = keyfile.load(home.identity_file)
        passphrase = "" if plain else new_passphrase("`pylon identity backup --plain` writes the key without one.")
        keyfile.write(file, secret, passphrase=passphrase)
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json({"file": str(file), "npub": nip19.npub(secret.public), "encrypted": not plain})
    else:
        out.print(
            f"wrote {file}. Keep it safe: anyone who has it{'' if plain else ' and the passphrase'} "
            "can act as this node."
        )


@app.command()
def restore(
    file: Annotated[
        Path, typer.Argument(help="A backup, or any file with an nsec, ncryptsec, hex key or seed phrase.")
    ],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the key of this home with a passphrase.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a home with the key from a backup. An existing key is never overwritten.

    With --passphrase the home's key stays encrypted (NIP-49): with the backup's own passphrase if it has one,
    otherwise with one that the command asks for. PYLON_PASSPHRASE answers instead of you, and unlocks the key at
    every start.
    """
    try:
        home = _home_to_restore_into()
        text = _read(file)
        given = _passphrase() if text.startswith("ncryptsec1") else ""
        otherwise = "name the file that holds the key, or another backup"
        secret = keyfile.parse(text, given or None, where=f"the content of {file}", otherwise=otherwise)
        protection = (given or new_passphrase(BARE)) if passphrase else ""
        make_home(home, secret, passphrase=protection)
    except PylonError as error:
        fail(error, as_json=as_json)
    npub = nip19.npub(secret.public)
    if as_json:
        print_json({"npub": npub, "home": str(home.root), "encrypted": passphrase})
    else:
        out.print(f"restored {npub} into {home.identity_file}")


def _home_to_restore_into() -> Home:
    root = settings.home_directory()
    if (root / "config.toml").exists():
        return open_home()[0]
    return Home(root)


def _read(file: Path) -> str:
    hint = "Name the file that holds the key."
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{file} is not a text file", hint=hint) from error
    if not text:
        raise SetupError(f"{file} is empty", hint=hint)
    return text


def _passphrase() -> str:
    given = os.environ.get(keyfile.PASSPHRASE_VARIABLE)
    return given or _asked("Passphrase", "use the one that the backup was made with.")


def new_passphrase(without: str) -> str:
    """From PYLON_PASSPHRASE, or asked for twice. Raises `UsageError` for one that is too short, or where nobody is
    there to ask; `without` says how the command does without one.
    """
    given = os.environ.get(keyfile.PASSPHRASE_VARIABLE)
    if not given:
        given = _asked("New passphrase", without)
        if _asked("Repeat the passphrase", without) != given:
            raise UsageError("the two passphrases differ", hint="Try again.")
    if len(given) < MIN_PASSPHRASE:
        raise UsageError(f"a passphrase needs at least {MIN_PASSPHRASE} characters")
    return given


def _asked(what: str, otherwise: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(f"{what}: ", stream=sys.stderr)
    except getpass.GetPassWarning as error:
        # Where no terminal is, a program may have written it into a pipe.
        if line := asyncio.run(stdin.line(exact=True)):
            return line.rstrip("\r\n")
        raise UsageError(
            "a passphrase is needed, and there is no terminal to ask for it",
            hint=f"Set {keyfile.PASSPHRASE_VARIABLE}; {otherwise}",
        ) from error
