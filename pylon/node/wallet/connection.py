"""The node's wallet: its link (NIP-47, `nostr+walletconnect://…`), and the connection to it.

The link is a secret like the key. It has a file of its own (mode 0600) in the network's folder.
"""

from collections.abc import Callable, Collection
from contextlib import AsyncExitStack

from pylon.clock import Clock
from pylon.errors import SetupError
from pylon.files import write_whole
from pylon.money.network import Network
from pylon.money.nwc.client import NwcWallet
from pylon.money.nwc.uri import NwcUri, parse_uri
from pylon.money.payments.guard import GuardedWallet
from pylon.node.home import Home, private_folder
from pylon.node.wallet.link_lock import locks_folder
from pylon.nostr.pool import RelayPool

LINK_FILE = "wallet"


def save_link(home: Home, link: NwcUri) -> None:
    """Writes the link, and replaces an older one. Raises `SetupError` without a key for this network."""
    if not home.identity_file.exists():
        raise SetupError(f"there is no key in {home.folder}", hint="Run `pylon init`: each network has its own key.")
    # Created here, because a service may not be allowed to create it.
    private_folder(locks_folder())
    write_whole(home.folder / LINK_FILE, f"{link.reveal()}\n".encode("ascii"))


def load_link(home: Home) -> NwcUri | None:
    """The link of this home and network, or None. Raises `SetupError` if other users can read it, `MoneyError` if it
    is malformed."""
    path = home.folder / LINK_FILE
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise SetupError(
            f"other users can read the wallet link in {path} (mode {mode:04o})",
            hint="Revoke that link in the wallet, and connect a new one.",
        )
    return parse_uri(text)


def no_wallet_error(home: Home) -> SetupError:
    """The error for a running node that has no wallet."""
    if (home.folder / LINK_FILE).exists():
        return SetupError(
            "a wallet was connected after this node started; the node does not use it yet",
            hint="Restart the node: `pylon stop`, then `pylon start`.",
        )
    return SetupError("no wallet is connected", hint="Connect one with `pylon wallet connect`.")


async def open_wallet(
    link: NwcUri,
    network: Network,
    clock: Clock,
    stack: AsyncExitStack,
    *,
    live: Callable[[], bool] = lambda: False,
    also_called: Collection[str] = (),
) -> GuardedWallet:
    """Connects the wallet of a link; `stack` closes it. Does not wait for the wallet to answer. `live` tells whether
    live money is allowed now; `also_called` are more names by which the wallet may call its network."""
    pool = RelayPool(link.relays, secret=link.secret, clock=clock)
    pool.start()
    stack.push_async_callback(pool.close)
    wallet = NwcWallet(link, pool, clock)
    await wallet.start()
    stack.push_async_callback(wallet.close)
    return GuardedWallet(wallet, network, live=live, also_called=also_called)
