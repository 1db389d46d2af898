"""How the page looks with much to show and with nothing: in a real browser, with a stand-in for the node's core."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pylon.gateway.server import serving
from tests.gateway.browser import Tab, found, tab_of
from tests.gateway.fakes import TOKEN, FakeCore, gateway_of, listing

CHROMIUM = found()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed here"),
]
# Names in which there is nowhere to break a line.
MODEL = "a-publisher/a_model_of_" + "many_words_" * 8
# What is drawn over the edge of its card or its table.
OVER = """[...document.querySelectorAll("section, .wide")].filter((one) => one.scrollWidth > one.clientWidth).map(
  (one) => `${one.innerText.slice(0, 40)}: ${one.scrollWidth} px in ${one.clientWidth}`)"""


def status(*, model: str = "m-1", hindrance: str = "", **engine: Any) -> dict[str, Any]:
    engine = {
        "state": "ready",
        "slots": 16,
        "tokens_out_per_s": 3.0,
        "failure": "",
        "hint": "",
        "reason": "",
        **engine,
    }
    provider = {"paused": "", "draining": False, "queued": 4321, "running": 16, "jobs": {}, "latency": {},
                "wallet_down": False, "engine": engine}  # fmt: skip
    relays = [{"url": "ws://127.0.0.1:1", "state": "open"}]
    return {"running": True, "npub": "npub1me", "network": "play", "relays": relays, "model": model,
            "hindrance": hindrance, "spending_stopped": False, "provider": provider}  # fmt: skip


@asynccontextmanager
async def shown(core: FakeCore, folder: Path) -> AsyncIterator[Tab]:
    assert CHROMIUM is not None
    gateway = gateway_of(core, folder)
    async with serving(gateway.app, "127.0.0.1", 0, connections=100) as port, tab_of(CHROMIUM, folder / "b") as tab:
        await tab.open(f"http://127.0.0.1:{port}/#key={TOKEN}")
        await tab.until("!document.getElementById('now').hidden")
        yield tab
        assert tab.faults == []


async def test_long_names_and_large_figures_stay_inside_their_cards_and_tables(tmp_path: Path) -> None:
    states = ("ready", "paused (battery, someone is typing)", "serves only its household")
    rows = [
        listing(MODEL, price=(1_234_567, 10, 200_000), state=state, name="W" * 60, slots=1_000) for state in states
    ]
    many = {"models": [f"m-{i}" for i in range(9)], "weights": ["ab" * 32] * 9, "contexts": [4096] * 9}
    core = FakeCore(providers=[*rows, listing() | many])
    failure = f"the model file /models/{MODEL} is damaged"
    core.answers["status"] = status(model=MODEL, state="failed", failure=failure)
    job = {"id": "ab" * 32, "received_at": 1, "state": "settled", "code": "", "model": MODEL, "run_ms": 123_456,
           "prompt_tokens": 1_234_567, "completion_tokens": 99_999, "earned_msat": 123_456_789}  # fmt: skip
    core.answers["jobs"] = {"jobs": [job] * 20}
    async with shown(core, tmp_path) as tab:
        for width in (1280, 390):
            await tab.resize(width)
            await tab.until(f"Math.abs(document.documentElement.clientWidth - {width}) < 20")
            assert await tab.value(OVER) == []
        assert "16 running, 4,321 waiting" in await tab.text("serving-more")
        assert "1,000 of 1,000" in await tab.text("providers")
        assert "m-0, m-1, m-2 and 6 others" in await tab.text("providers")


async def test_a_node_that_served_nothing_yet_says_so_in_place_of_an_empty_table(tmp_path: Path) -> None:
    core = FakeCore()
    core.answers["status"] = status()
    async with shown(core, tmp_path) as tab:
        assert await tab.text("jobs-none") == "none yet"
        assert await tab.value("document.getElementById('jobs').hidden")
