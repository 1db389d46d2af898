"""`pylon init`: makes a home, or shows the one that is there."""

from typing import Annotated

import typer

from pylon import config as settings
from pylon.cli.identity import BARE, new_passphrase
from pylon.cli.output import out
from pylon.cli.running import NEEDLE_ASK, Json, fail, print_json
from pylon.errors import PylonError, UsageError
from pylon.inference.models import needle
from pylon.node import identity
from pylon.node.binding import bind
from pylon.node.home import Home
from pylon.node.new_home import make_home
from pylon.nostr.bech32 import nip19
from pylon.nostr.keys import SecretKey
from pylon.sections import InferenceSection


def init(
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the key with a passphrase, which every start then needs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a home: folders, a config file that lists every setting, and a key.

    --passphrase encrypts a new key (NIP-49, `ncryptsec1…`). The command asks for the passphrase, or takes it from
    PYLON_PASSPHRASE; set that variable wherever the node starts.
    """
    try:
        root = settings.home_directory()
        config = settings.found_or_default(root)
        home = Home(root, config.network)
        new = not home.identity_file.exists()
        # Before anything is made: whoever is asked for a passphrase may press Ctrl-C.
        protection = new_passphrase(BARE) if new and passphrase else ""
        secret = make_home(home, passphrase=protection) if new else _completed(home, passphrase)
    except PylonError as error:
        fail(error, as_json=as_json)
    npub = nip19.npub(secret.public)
    if as_json:
        print_json({"home": str(home.root), "network": home.network, "npub": npub, "new": new})
        return
    out.print(f"{'made' if new else 'found'} {npub}\n  home     {home.root}\n  settings {home.config_file}")
    if new:
        out.print(f"\n{_next(config.inference)}\nBack up the key: `pylon identity backup FILE`.")


def _next(inference: InferenceSection) -> str:
    """What to do with a new home. The packaged model can answer the question named here, and few others."""
    boxed = inference.engine == "mlx" and inference.model == needle.MODEL_ID
    asks = f":\n  {NEEDLE_ASK}" if boxed else ' `pylon ask "…"`.'
    return f"Next: run `pylon relay` in one terminal and `pylon start` in another, then{asks}"


def _completed(home: Home, passphrase: bool) -> SecretKey:
    """The key of a home that has one. Whatever else of the home is missing is made. Raises `SetupError`."""
    home.create()
    if passphrase and not identity.is_protected(home.identity_file):
        raise UsageError(
            f"{home.identity_file} already holds a key, without a passphrase",
            hint=(
                "To encrypt it: back it up, move that file away, and run `pylon identity restore FILE --passphrase`."
            ),
        )
    secret = identity.load(home.identity_file)
    bind(home.folder)
    return secret
