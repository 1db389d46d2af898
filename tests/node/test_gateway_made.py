"""How a home's gateway is made."""

from pathlib import Path

import pytest

from pylon import config as settings
from pylon.node.gateway import GatewayCore, make_gateway
from pylon.node.home import Home
from tests.gateway.fakes import client_of


@pytest.mark.parametrize(("host", "told"), [("127.0.0.1", True), ("0.0.0.0", False)])
async def test_this_machine_alone_is_told_where_the_token_lies(tmp_path, monkeypatch, host, told):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    home = Home(tmp_path / ".pylon")
    home.create()
    config = settings.parse({})
    made = make_gateway(GatewayCore(home, config), home, config, host=host, sats=None, token=True)
    async with client_of(made, token=None) as client:
        html = (await client.get("/")).text
    assert ("~/.pylon/play/gateway-token" in html) is told
    assert str(tmp_path) not in html
