"""Each network has a folder and a key of its own, made by `pylon init`, wherever the network is named."""

import json

from typer.testing import CliRunner

from pylon.cli.program import app
from pylon.money.nwc.uri import NwcUri
from pylon.nostr.keys import SecretKey

LINK = NwcUri(SecretKey.generate().public, ("ws://127.0.0.1:1",), SecretKey.generate()).reveal()


def pylon(*arguments: str, home, network: str, given: str = ""):
    env = {"PYLON_HOME": str(home), "PYLON_NETWORK": network}
    return CliRunner().invoke(app, [*arguments, "--json"], env=env, input=given)


def test_init_makes_the_key_of_the_network_that_the_environment_names(tmp_path):
    for network, new in (("regtest", True), ("regtest", False), ("play", True)):
        made = json.loads(pylon("init", home=tmp_path, network=network).stdout)
        assert (made["network"], made["new"]) == (network, new)
    assert (tmp_path / "regtest" / "identity").read_text() != (tmp_path / "play" / "identity").read_text()


def test_a_network_that_is_none_is_refused_before_anything_is_made(tmp_path):
    assert pylon("init", home=tmp_path, network="moon").exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_wallet_is_not_connected_on_a_network_that_has_no_key_here(tmp_path):
    assert pylon("init", home=tmp_path, network="play").exit_code == 0
    refused = pylon("wallet", "connect", "-", home=tmp_path, network="regtest", given=LINK)
    assert refused.exit_code == 3
    assert "pylon init" in json.loads(refused.stdout)["error"]["hint"]
    assert pylon("init", home=tmp_path, network="regtest").exit_code == 0
    assert pylon("wallet", "connect", "-", home=tmp_path, network="regtest", given=LINK).exit_code == 0
