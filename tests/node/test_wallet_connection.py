"""What a node that runs says of a wallet that it does not have."""

import pytest

from pylon import config as settings
from pylon.errors import SetupError
from pylon.money.nwc.uri import NwcUri
from pylon.node import identity
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.session import LocalNode
from pylon.node.wallet.connection import save_link
from pylon.nostr.keys import SecretKey

NOBODY = "ws://127.0.0.1:1"
CALLS = {"wallet-balance": {}, "wallet-invoice": {"sats": 1}, "wallet-pay": {"invoice": "lnbc1", "most_sat": 1}}


@pytest.mark.parametrize("call", CALLS)
async def test_a_wallet_that_came_after_the_node_started_needs_its_next_start(call, tmp_path):
    home = Home(tmp_path)
    home.create()
    identity.create(home.identity_file)
    async with Core(home, settings.parse({"relays": [NOBODY]}), serve=False) as core:
        with pytest.raises(SetupError, match="no wallet is connected"):
            await result_of(LocalNode(core), call, CALLS[call])
        save_link(home, NwcUri(SecretKey.generate().public, (NOBODY,), SecretKey.generate()))
        with pytest.raises(SetupError, match="connected after this node started") as caught:
            await result_of(LocalNode(core), call, CALLS[call])
        assert "pylon start" in caught.value.hint
