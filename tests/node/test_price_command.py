"""`pylon price`: what the owner set is in the file, and the file is otherwise as it was."""

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest
from typer.testing import CliRunner

from pylon import config as settings
from pylon.cli import price as command
from pylon.cli.price import takes_effect
from pylon.cli.program import app
from pylon.node.calls.protocol import Result
from pylon.node.calls.server import ControlServer
from pylon.node.home import Home
from pylon.node.household.members import HouseholdFile
from pylon.node.settings import provider_settings
from pylon.node.settings_file import change

DEAREST = 100_000_000_000
DEARER = str(DEAREST + 1)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    monkeypatch.setenv("PYLON_HOME", str(tmp_path))
    made = Home(tmp_path)
    made.create()
    return made


def price(*arguments: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["price", *arguments])
    return ran.exit_code, ran.output


def test_a_new_home_is_free(home):
    code, said = price("show")
    assert code == 0
    assert said.startswith("free")


def test_a_price_that_was_set_is_shown_and_loaded(home):
    code, said = price("set", "--base", "500", "--out", "10000")
    assert code == 0
    assert "0.5 play sat per job, 0 play sat per 1,000 prompt tokens, 10 play sat per 1,000 completion tokens" in said
    assert "cost 2.5 play sat" in said
    section = settings.load(home.config_file).provider
    assert (section.pricing, section.base_msat, section.out_msat_per_1k) == ("paid", 500, 10_000)
    shown = orjson.loads(price("show", "--json")[1])
    assert shown["example"] == {"prompt_tokens": 1_000, "completion_tokens": 200, "price_msat": 2_500}
    assert price("set", "--free")[0] == 0
    section = settings.load(home.config_file).provider
    assert (section.pricing, section.base_msat) == ("free", 500)


def test_the_rest_of_the_file_stays_as_it_was(home):
    mine = '# mine\nrelays = ["ws://127.0.0.1:1"]\n\n'
    before = f'{mine}[provider]\nname = "cellar" # by the boiler\n\n[inference]\nslots = 4\n'
    home.config_file.write_text(before)
    price("set", "--in", "7")
    text = home.config_file.read_text()
    assert [line for line in before.splitlines() if line not in text.splitlines()] == []
    added = {line for line in text.splitlines() if line not in before.splitlines()}
    assert added == {"in_msat_per_1k = 7", 'pricing = "paid"'}
    assert home.config_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "arguments", [(), ("--base", "1", "--free"), ("--base", "-1"), ("--base", "9" * 30), ("--in", DEARER)]
)
def test_what_is_no_price_changes_nothing(home, arguments):
    before = home.config_file.read_bytes()
    assert price("set", *arguments)[0] != 0
    assert home.config_file.read_bytes() == before


@pytest.mark.parametrize("name", ["base_msat", "in_msat_per_1k", "out_msat_per_1k"])
def test_a_rate_that_no_job_could_be_paid_at_is_refused_when_the_settings_are_read(name):
    with pytest.raises(settings.SetupError, match=name):
        settings.parse({"provider": {name: DEAREST + 1}})


def test_every_price_that_the_settings_allow_is_one(home):
    code, _ = price("set", "--base", str(DEAREST), "--in", str(DEAREST), "--out", str(DEAREST))
    assert code == 0
    own = "0" * 63 + "1"
    assert (
        provider_settings(settings.load(home.config_file), own, HouseholdFile(home.folder)).price.base_msat == DEAREST
    )


def test_an_override_in_the_environment_is_told(home, monkeypatch):
    monkeypatch.setenv("PYLON_PROVIDER__BASE_MSAT", "9")
    assert "PYLON_PROVIDER__BASE_MSAT in the environment overrides" in price("set", "--base", "5")[1]


def test_a_setting_that_does_not_fit_changes_nothing(home):
    before = home.config_file.read_bytes()
    with pytest.raises(settings.SetupError):
        change(home.config_file, "provider", {"base_msat": "much"})
    assert home.config_file.read_bytes() == before
    assert {path.name for path in home.root.iterdir() if path.is_file()} == {"config.toml"}


def test_a_price_says_from_when_it_counts_and_when_a_free_node_becomes_paid(home):
    said = " ".join(price("set", "--base", "500")[1].split())
    assert said.endswith("the price was free and will be paid from the next start on")
    again = " ".join(price("set", "--base", "600")[1].split())
    assert again.endswith("the new price applies from the next start on")
    assert takes_effect("free", "free", "`x`") == "work was free and stays free"


async def test_a_node_that_serves_at_another_price_than_the_settings_have_is_asked_and_both_are_shown(home):
    now = {"pricing": "free", "base_msat": 0, "in_msat_per_1k": 0, "out_msat_per_1k": 0}

    async def answered(_):
        yield Result({"serving": True, "price": now})

    change(home.config_file, "provider", {"pricing": "paid", "base_msat": 500, "in_msat_per_1k": 0})
    server = ControlServer(home.socket, {"status": answered, "ping": answered})
    await server.start()
    try:
        code, shown = await asyncio.to_thread(price, "show")
        lines = shown.splitlines()
        assert code == 0 and lines[0] == "now" and lines[1].startswith("free of charge")
        assert lines[2] == "from the next start on" and lines[3].startswith("0.5 play sat per job")
        assert "pylon stop" in lines[-1]
        named = orjson.loads((await asyncio.to_thread(price, "show", "--json"))[1])
        assert (named["pricing"], named["now"]["pricing"], named["now"]["example"]["price_msat"]) == (
            "paid",
            "free",
            0,
        )
        change(home.config_file, "provider", now)
        assert (await asyncio.to_thread(price, "show"))[1].startswith("free of charge")
    finally:
        await server.close()
    assert orjson.loads((await asyncio.to_thread(price, "show", "--json"))[1])["now"] is None


async def test_only_the_command_that_starts_this_very_node_anew_is_named(home, monkeypatch):
    serving = True

    async def ping(_):
        yield Result({"serving": serving})

    def nowhere(_):
        raise settings.SetupError("neither launchd nor systemd is available here")

    async with AsyncExitStack() as stack:
        server = ControlServer(home.socket, {"ping": ping})
        await server.start()
        stack.push_async_callback(server.close)
        named = []
        for installed in (lambda _: object(), lambda _: None, nowhere):
            monkeypatch.setattr(command, "installed", installed)
            named.append(await command._restart(home))
        assert named == ["`pylon service restart`", *["`pylon stop`, then `pylon start`"] * 2]
        # A command's own core reads the settings when it begins, whatever is done.
        serving = False
        assert await command._restart(home) == ""
    assert await command._restart(home) == ""
