"""The NIP-47 connection string: which wallet, over which relays, with which secret.

Its holder can spend from the wallet, so its `repr` omits the secret, and it is written nowhere but to the file that
the owner keeps it in. Source: NIP-47 "Nostr Wallet Connect URI".
"""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, urlsplit

from pylon.errors import MalformedError, MoneyError
from pylon.nostr.event import is_hex64
from pylon.nostr.keys import SecretKey, check_public_key

SCHEME = "nostr+walletconnect"
MAX_LENGTH = 2_000
MAX_RELAYS = 10


@dataclass(frozen=True, slots=True)
class NwcUri:
    """A parsed connection string. `wallet` is the wallet service's public key, `secret` the client's secret key."""

    wallet: str
    relays: tuple[str, ...]
    secret: SecretKey = field(repr=False)
    lud16: str = ""

    def reveal(self) -> str:
        """The connection string with its secret, to hand it to its owner."""
        parameters = [("relay", relay) for relay in self.relays]
        parameters.append(("secret", self.secret.secret_bytes.hex()))
        if self.lud16:
            parameters.append(("lud16", self.lud16))
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters)
        return f"{SCHEME}://{self.wallet}?{query}"


def parse_uri(text: str) -> NwcUri:
    """Parses a connection string. Raises `MoneyError`, whose message never repeats the input."""
    hint = "Copy the whole connection string from the wallet; it starts with nostr+walletconnect://"
    if len(text) > MAX_LENGTH:
        raise MoneyError("this connection string is too long", hint=hint)
    try:
        parts = urlsplit(text.strip())
        query = parse_qs(parts.query, max_num_fields=40)
    except ValueError:
        raise MoneyError("this is not a connection string", hint=hint) from None
    # Some wallets leave the slashes out.
    wallet = parts.netloc or parts.path
    if parts.scheme != SCHEME:
        raise MoneyError("this is not a connection string", hint=hint)
    try:
        wallet = check_public_key(wallet.lower())
    except MalformedError:
        raise MoneyError("the wallet's public key in this connection string is invalid", hint=hint) from None
    relays = tuple(dict.fromkeys(query.get("relay", ())))
    if not 1 <= len(relays) <= MAX_RELAYS or not all(r.startswith(("ws://", "wss://")) for r in relays):
        raise MoneyError("this connection string names no relay (ws:// or wss://)", hint=hint)
    secrets = [value.lower() for value in query.get("secret", ())]
    if len(secrets) != 1 or not is_hex64(secrets[0]):
        raise MoneyError("this connection string must have exactly one secret", hint=hint)
    try:
        secret = SecretKey(bytes.fromhex(secrets[0]))
    except MalformedError:
        raise MoneyError("the secret in this connection string is not a valid key", hint=hint) from None
    return NwcUri(wallet, relays, secret, query.get("lud16", [""])[0])
