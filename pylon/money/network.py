"""The six networks of money: what their invoices start with, what wallets call them, and which one is live.

Every network has a folder, a key and a database of its own. The default is `play`; no setting alone turns play money
into real money.
"""

from enum import StrEnum


class Network(StrEnum):
    """A network of money."""

    PLAY = "play"
    REGTEST = "regtest"
    SIGNET = "signet"
    MUTINYNET = "mutinynet"
    TESTNET4 = "testnet4"
    MAINNET = "mainnet"

    @property
    def is_live(self) -> bool:
        """Whether its sats are worth something."""
        return self is Network.MAINNET

    @property
    def currency(self) -> str:
        """What stands after `ln` in its invoices (BOLT-11 "Human-Readable Part")."""
        return _CURRENCY[self]

    @property
    def unit(self) -> str:
        """The unit of its amounts, for people: money that is not live says so wherever it shows."""
        return "sat" if self.is_live else f"{self.value} sat"

    def accepts_wallet(self, named: str) -> bool:
        """Whether a wallet that gives its network this name (NIP-47 `get_info`) may be used on this one.

        A wallet that gives no name may be on mainnet, and is used only there: on mainnet a person has typed how much
        may be lost, and every invoice is checked for its network; on a test network nobody has.
        """
        return named in _WALLET_NAMES[self] or (self.is_live and not named)


_CURRENCY = {
    Network.PLAY: "bcrt",
    Network.REGTEST: "bcrt",
    Network.SIGNET: "tbs",
    Network.MUTINYNET: "tbs",
    Network.TESTNET4: "tb",
    Network.MAINNET: "bc",
}

# NIP-47 knows mainnet, testnet, signet and regtest only. Our own bank says `play`, so that a regtest wallet is not
# taken for play money, nor the other way round.
_WALLET_NAMES = {
    Network.PLAY: frozenset({"play"}),
    Network.REGTEST: frozenset({"regtest"}),
    Network.SIGNET: frozenset({"signet"}),
    Network.MUTINYNET: frozenset({"signet", "mutinynet"}),
    Network.TESTNET4: frozenset({"testnet", "testnet4"}),
    Network.MAINNET: frozenset({"mainnet"}),
}
