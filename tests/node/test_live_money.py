"""Live money never happens by accident: every entry point of a node is tried with a wallet that would do anything."""

import asyncio
import os
import pty
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

import pylon
from pylon import config as settings
from pylon.cli.program import app
from pylon.cli.wallet_live import spending_lines
from pylon.errors import PylonError, SetupError, UsageError
from pylon.money.invoices.receiver import ReceiveCode, ReceiveError
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.payments.agreed import FIRST, Agreed
from pylon.node import identity
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.serving import payments
from pylon.node.session import LocalNode
from pylon.node.wallet import live
from pylon.node.wallet.connection import save_link
from pylon.relay.server import RelayServer
from tests.node.nwc_service import WillingWallet

AGREED = "50 500 5000"
MOVES = {"make_invoice", "pay_invoice"}
# Longer than any call here takes; one that waits for people is left after that.
CALL_S = 20.0


def home_on(root: Path, network: str) -> Home:
    home = Home(root, network)
    home.create()
    if not home.identity_file.exists():
        identity.create(home.identity_file)
    return home


def public(home: Home) -> str:
    return identity.load(home.identity_file).public


@pytest.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def relay(stack):
    return await stack.enter_async_context(RelayServer())


async def try_everything(core: Core, invoice: str) -> set[str]:
    """Makes every call that a core answers, with parameters for all of them; the calls that did not fail."""
    params = {
        "invoice": invoice,
        "most_sat": 50,
        "sats": 5,
        "jobs": [{"prompt": "How many legs has a spider?", "max_tokens": 8}],
        "timeout_s": 1,
        "wait_s": 0,
        # An invitation waits for minutes, and has nothing to do with money.
        "count": 0,
    }
    done = set()
    for name in core.methods:
        try:
            await asyncio.wait_for(result_of(LocalNode(core), name, params), CALL_S)
        except (PylonError, TimeoutError):
            continue
        done.add(name)
    return done


def core_of(home: Home, url: str, *, serve: bool = False, **changes) -> Core:
    raw = {
        "network": home.network,
        "relays": [url],
        "inference": {"engine": "instant"},
        "customer": {"bid_msat": 5_000, "patience_s": 0.5},
        **changes,
    }
    return Core(home, settings.parse(raw), serve=serve)


@pytest.mark.parametrize(
    ("network", "called"),
    [(Network.MAINNET, "mainnet"), (Network.PLAY, "play"), (Network.REGTEST, "regtest"), (Network.PLAY, "mainnet")],
)
@pytest.mark.parametrize("serve", [False, True])
async def test_without_go_live_no_call_makes_accepts_or_pays_an_lnbc_invoice(
    tmp_path, stack, relay, network, called, serve
):
    home = home_on(tmp_path, network.value)
    wallet = await WillingWallet(relay.url, called, "bc").start(stack)
    save_link(home, wallet.link)
    # Even a permission that lies there is none on a network that is not live.
    (home_on(tmp_path, "play").folder / live.LIVE_FILE).write_bytes(b"{}")
    async with core_of(home, relay.url, serve=serve, wallet={"also_called": [called]}) as core:
        done = await try_everything(core, wallet.invoice())
        assert {"ping", "wallet-balance"} <= done
        assert not {"wallet-invoice", "wallet-pay"} & done
        assert await core.opened.database.fetch_all("SELECT * FROM money_payment") == []
        assert await core.opened.database.fetch_all("SELECT * FROM money_invoice") == []
    allowed = set() if network.is_live else {"make_invoice"}
    assert set(wallet.asked) & MOVES <= allowed, (
        "a wallet may be asked for test money, and what it gives is not taken"
    )


async def test_after_go_live_the_same_calls_do_make_and_pay_invoices(tmp_path, stack, relay):
    home = home_on(tmp_path, "mainnet")
    wallet = await WillingWallet(relay.url, "mainnet", "bc").start(stack)
    save_link(home, wallet.link)
    live.allow(home, public(home), FIRST, AGREED)
    async with core_of(home, relay.url) as core:
        assert {"wallet-invoice", "wallet-pay"} <= await try_everything(core, wallet.invoice())
    assert set(wallet.asked) >= MOVES


async def test_paid_work_and_paying_customers_do_not_start_on_mainnet_without_go_live(tmp_path, stack, relay):
    home = home_on(tmp_path, "mainnet")
    wallet = await WillingWallet(relay.url, "mainnet", "bc").start(stack)
    save_link(home, wallet.link)
    with pytest.raises(SetupError, match="live money is not allowed") as caught:
        async with core_of(home, relay.url, serve=True, provider={"pricing": "paid"}):
            pass
    assert "go-live" in caught.value.hint
    async with core_of(home, relay.url) as core:
        with pytest.raises(SetupError, match="live money is not allowed"):
            await core.customer()
    async with core_of(home, relay.url, customer={}) as core:
        await core.customer()
    assert not set(wallet.asked) & MOVES


async def test_a_node_that_runs_holds_to_caps_that_were_lowered_and_to_a_permission_that_was_taken_back(
    tmp_path, stack, relay
):
    home = home_on(tmp_path, "mainnet")
    wallet = await WillingWallet(relay.url, "mainnet", "bc").start(stack)
    save_link(home, wallet.link)
    live.allow(home, public(home), FIRST, AGREED)
    pay = {"invoice": wallet.invoice(20), "most_sat": 20}
    async with core_of(home, relay.url, serve=True, provider={"pricing": "paid"}) as core:
        node, taken = LocalNode(core), payments(core.opened)
        assert taken is not None
        live.allow(home, public(home), Agreed(10, 100, 1_000), "10 100 1000")
        assert (await result_of(node, "status"))["spending"]["most_payment_msat"] == 10_000
        assert core.opened.money is not None and core.opened.money.sender.most == Msat(10_000)
        with pytest.raises(PylonError, match="limit_payment"):
            await result_of(node, "wallet-pay", pay)
        live.withdraw(home)
        assert (await result_of(node, "status"))["live_money"] is False
        with pytest.raises(PylonError, match="not_live"):
            await result_of(node, "wallet-pay", pay)
        with pytest.raises(PylonError, match="live money is not allowed"):
            await result_of(node, "wallet-invoice", {"sats": 5})
        with pytest.raises(SetupError, match="live money is not allowed"):
            await core.customer()
        with pytest.raises(ReceiveError) as caught:
            await taken.receiver.issue("aa" * 32, "job", Msat(5_000), description="")
        assert caught.value.code is ReceiveCode.NOT_LIVE
        assert not set(wallet.asked) & MOVES
        # So do caps that were raised, or allowed anew.
        live.allow(home, public(home), FIRST, AGREED)
        assert (await result_of(node, "wallet-pay", pay))["state"] == "settled"
        (home.folder / live.LIVE_FILE).chmod(0o666)
        assert (await result_of(node, "status"))["live_money"] is False, "what others may write allows nothing"


async def test_a_wallet_of_another_network_is_refused_by_name_and_allowed_by_the_named_override(
    tmp_path, stack, relay
):
    home = home_on(tmp_path, "regtest")
    wallet = await WillingWallet(relay.url, "mainnet", "bcrt").start(stack)
    save_link(home, wallet.link)
    async with core_of(home, relay.url) as core:
        with pytest.raises(PylonError, match="'mainnet'") as caught:
            await result_of(LocalNode(core), "wallet-invoice", {"sats": 5})
        assert "wallet.also_called" in caught.value.hint
    async with core_of(home, relay.url, wallet={"also_called": ["mainnet"]}) as core:
        assert (await result_of(LocalNode(core), "wallet-invoice", {"sats": 5}))["unit"] == "regtest sat"


async def test_a_stop_file_halts_spending_of_a_running_node_at_once(tmp_path, stack, relay):
    home = home_on(tmp_path, "play")
    wallet = await WillingWallet(relay.url, "play", "bcrt").start(stack)
    save_link(home, wallet.link)
    async with core_of(home, relay.url) as core:
        (tmp_path / live.STOP_FILE).symlink_to("nowhere")
        assert (await result_of(LocalNode(core), "status"))["spending_stopped"] is True
        with pytest.raises(PylonError, match="STOP"):
            await result_of(LocalNode(core), "wallet-pay", {"invoice": wallet.invoice(), "most_sat": 5})
        assert "pay_invoice" not in wallet.asked
        (tmp_path / live.STOP_FILE).unlink()
        paid = await result_of(LocalNode(core), "wallet-pay", {"invoice": wallet.invoice(), "most_sat": 5})
        assert paid["state"] == "settled"


def test_a_wallet_is_connected_in_one_place_and_guarded_there():
    root = Path(pylon.__file__).parent
    makers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"\bNwcWallet\(", path.read_text(encoding="utf-8"))
    }
    assert makers == {"money/nwc/client.py", "node/wallet/connection.py"}


# --- the permission itself ----------------------------------------------------------------------------------------


def go_live(root: Path, monkeypatch, *arguments: str, typed: str = "", person: bool = True) -> tuple[int, str]:
    monkeypatch.setenv("PYLON_HOME", str(root))
    monkeypatch.setattr("pylon.cli.stdin.is_terminal", lambda: person)
    ran = CliRunner().invoke(app, ["wallet", "go-live", *arguments], input=typed)
    return ran.exit_code, ran.output


@pytest.fixture
def mainnet(tmp_path) -> Home:
    home = home_on(tmp_path, "mainnet")
    home.config_file.write_text('network = "mainnet"\n')
    return home


def test_go_live_states_the_caps_and_asks_for_them_to_be_typed(mainnet, monkeypatch):
    code, said = go_live(mainnet.root, monkeypatch, typed=f"{AGREED}\n")
    assert code == 0
    assert "50 sat per payment, 500 per day, 5,000 in total" in said
    assert live.is_allowed(mainnet, public(mainnet))
    code, said = go_live(mainnet.root, monkeypatch, "--json")
    assert orjson.loads(said)["live"] is True
    code, _ = go_live(mainnet.root, monkeypatch, "--off")
    assert (code, live.is_allowed(mainnet, public(mainnet))) == (0, False)


@pytest.mark.parametrize(
    "typed", ["", "\n", "yes\n", "50 500\n", "500 50 5000\n", "50 500 5000 1\n", "0x32 500 5000\n"]
)
def test_anything_else_that_is_typed_allows_nothing(mainnet, monkeypatch, typed):
    code, _ = go_live(mainnet.root, monkeypatch, typed=typed)
    assert (code, live.is_allowed(mainnet, public(mainnet))) == (UsageError.exit_code, False)


def test_on_a_test_network_there_is_nothing_to_allow(tmp_path, monkeypatch):
    home = home_on(tmp_path, "play")
    code, said = go_live(tmp_path, monkeypatch, typed=f"{AGREED}\n")
    assert (code, live.is_allowed(home, public(home))) == (UsageError.exit_code, False)
    assert "mainnet" in said


CHOSEN = ("--payment", "100", "--day", "3000", "--all", "30000")


def test_whoever_types_other_caps_has_them(mainnet, monkeypatch):
    code, said = go_live(mainnet.root, monkeypatch, *CHOSEN, typed="100 3000 30000\n")
    assert code == 0
    assert said.count("100 sat per payment, 3,000 per day, 30,000 in total") == 2
    assert live.permission(mainnet, public(mainnet)) == Agreed(100, 3_000, 30_000)
    # Without any it says what is allowed; one that is named stands beside those that are allowed, and is typed too.
    code, said = go_live(mainnet.root, monkeypatch, "--json")
    assert orjson.loads(said)["most_day_msat"] == 3_000_000
    code, said = go_live(mainnet.root, monkeypatch, "--day", "600", typed=f"{AGREED}\n")
    assert (code, live.permission(mainnet, public(mainnet))) == (2, Agreed(100, 3_000, 30_000))
    code, said = go_live(mainnet.root, monkeypatch, "--day", "600", typed="100 600 30000\n")
    assert (code, live.permission(mainnet, public(mainnet))) == (0, Agreed(100, 600, 30_000))


def test_caps_above_the_first_ones_are_typed_by_a_person_and_lower_ones_may_come_from_a_script(mainnet, monkeypatch):
    code, said = go_live(mainnet.root, monkeypatch, *CHOSEN, typed="100 3000 30000\n", person=False)
    assert (code, live.is_allowed(mainnet, public(mainnet))) == (UsageError.exit_code, False)
    assert "in a terminal" in said
    code, _ = go_live(mainnet.root, monkeypatch, typed=f"{AGREED}\n", person=False)
    assert (code, live.permission(mainnet, public(mainnet))) == (0, FIRST)
    code, _ = go_live(mainnet.root, monkeypatch, "--payment", "10", typed="10 500 5000\n", person=False)
    assert (code, live.permission(mainnet, public(mainnet))) == (0, Agreed(10, 500, 5_000))


def test_a_cap_that_is_not_named_stays_and_what_is_allowed_already_is_not_proposed():
    agreed = Agreed(payment=40, day=400, all=4_000)
    assert live.proposed(None, {}, by_person=False) == FIRST
    assert live.proposed(agreed, {"day": 300}, by_person=False) == Agreed(payment=40, day=300, all=4_000)
    assert live.proposed(agreed, {}, by_person=False) is None
    assert live.proposed(agreed, {"payment": 40}, by_person=False) is None
    with pytest.raises(UsageError, match="typed by a person"):
        live.proposed(agreed, {"payment": 51}, by_person=False)


def test_a_pipe_is_no_terminal_and_a_pseudo_terminal_is():
    program = [sys.executable, "-P", "-c", "from pylon.cli import stdin; print(stdin.is_terminal())"]
    assert subprocess.run(program, input="", capture_output=True, text=True, check=True).stdout == "False\n"
    theirs, ours = pty.openpty()
    try:
        assert subprocess.run(program, stdin=ours, capture_output=True, text=True, check=True).stdout == "True\n"
    finally:
        os.close(theirs)
        os.close(ours)


@pytest.mark.parametrize(
    "caps",
    [
        ("--payment", "10001"), ("--day", "100001"), ("--all", "10000001"), ("--payment", "0"), ("--day", "-5"),
        ("--payment", "499"), ("--all", "499"), (*CHOSEN, "--off"),
    ],
)  # fmt: skip
def test_caps_beyond_the_ceiling_or_that_do_not_fit_are_refused_before_anything_is_typed(mainnet, monkeypatch, caps):
    code, said = go_live(mainnet.root, monkeypatch, *caps, typed=f"{AGREED}\n")
    assert (code, live.is_allowed(mainnet, public(mainnet))) == (UsageError.exit_code, False)
    assert "type these" not in said


async def test_a_node_spends_up_to_the_caps_of_its_permission_and_says_what_is_used(tmp_path, stack, relay):
    home = home_on(tmp_path, "mainnet")
    wallet = await WillingWallet(relay.url, "mainnet", "bc").start(stack)
    save_link(home, wallet.link)
    live.allow(home, public(home), Agreed(60, 200, 1_000), "60 200 1000")
    async with core_of(home, relay.url) as core:
        assert core.opened.allowance.caps == Agreed(60, 200, 1_000).caps
        paid = await result_of(LocalNode(core), "wallet-pay", {"invoice": wallet.invoice(60), "most_sat": 60})
        assert paid["state"] == "settled"
        said = (await result_of(LocalNode(core), "status"))["spending"]
        assert said == (await result_of(LocalNode(core), "wallet-balance"))["spending"]
        assert (said["hour_msat"], said["most_hour_msat"], said["most_all_msat"]) == (60_000, 80_000, 1_000_000)
        assert "60 sat of 200 sat in the last day" in spending_lines(said, "sat")[0]
        assert core.opened.money.sender.most == Msat(60_000)


def test_without_a_permission_live_caps_are_the_first_ones_and_test_money_has_its_own():
    assert live.caps(Network.MAINNET, None) == FIRST.caps
    assert live.caps(Network.REGTEST, Agreed(1, 3, 3)) == PLAY_CAPS


def test_a_permission_is_for_one_key_these_caps_and_a_file_of_ones_own(mainnet, tmp_path, monkeypatch):
    live.allow(mainnet, public(mainnet), FIRST, AGREED)
    file = mainnet.folder / live.LIVE_FILE
    assert not live.is_allowed(mainnet, "ab" * 32)
    copied = home_on(tmp_path / "copy", "play")
    (copied.folder / live.LIVE_FILE).write_bytes(file.read_bytes())
    assert not live.is_allowed(copied, public(mainnet))
    said = orjson.loads(file.read_bytes())
    caps = said["caps_sat"]
    nobodys = [
        {**caps, "day": 51},
        {**caps, "day": True},
        {**caps, "all": 10**9},
        {**caps, "hour": 1},
        {"day": 500},
        5,
    ]
    bents = [{**said, "caps_sat": bent} for bent in nobodys] + [{**said, "key": "ab" * 32}, {**said, "more": 1}]
    for bent in (b"", b"true", b"[]", *map(orjson.dumps, bents)):
        file.write_bytes(bent)
        assert not live.is_allowed(mainnet, public(mainnet))
    file.chmod(0o666)
    with pytest.raises(SetupError, match="other users can write"):
        live.is_allowed(mainnet, public(mainnet))
