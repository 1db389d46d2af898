"""Making a home: its folders, a config file, a key, and the mark of the machine that it was made on."""

from pylon import config as settings
from pylon.node import identity
from pylon.node.binding import bind
from pylon.node.home import Home
from pylon.nostr.keys import SecretKey
from pylon.sections import Config


def make_home(home: Home, secret: SecretKey | None = None, *, passphrase: str = "") -> SecretKey:
    """Makes a home that has no key yet, with this key or a new one; a `passphrase` encrypts it (NIP-49).

    Raises `SetupError`, and `OSError` when the disk is full.
    """
    home.create()
    if secret is None:
        secret = identity.create(home.identity_file, passphrase=passphrase)
    else:
        identity.write(home.identity_file, secret, passphrase=passphrase)
    bind(home.folder)
    return secret


def found_or_made() -> tuple[Home, Config]:
    """The home that PYLON_HOME names, made with a new key if it has none, and its settings. Raises `SetupError`."""
    root = settings.home_directory()
    config = settings.found_or_default(root)
    home = Home(root, config.network)
    if not home.identity_file.exists():
        make_home(home)
    return home, config
