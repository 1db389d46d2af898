"""The page in a real browser, with a real gateway, relay and provider behind it; the engine is the stand-in."""

import asyncio
import os
import pty
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from pylon.clock import SystemClock
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.relay.server import RelayServer
from pylon.rlm.trajectory import Trajectory
from tests.gateway.browser import PATIENCE_S, Tab, found, tab_of
from tests.node import programs
from tests.swarm.test_exchange import serve
from tests.waiting import until

CHROMIUM = found()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed here"),
]
RUN = "20260101-000000-aaaaaa"
WIDTHS = (1280, 390)

# What a script of the page's own origin does that has the token: it asks, and notes each piece as it comes.
ASK = """
(async () => {
  const response = await fetch("/v1/chat/completions", {
    method: "POST", headers: { authorization: "Bearer %s", "content-type": "application/json" },
    body: JSON.stringify({ model: "any", stream: true, messages: [{ role: "user", content: "hello" }] }),
  });
  if (!response.ok) return { status: response.status, code: (await response.json()).error.code };
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const reads = [];
  for (let read = await reader.read(); !read.done; read = await reader.read()) reads.push(read.value);
  return { status: response.status, reads };
})()
"""


@dataclass
class Seen:
    """A gateway's page in a tab: the address that opens it, and the token of its home."""

    tab: Tab
    root: str
    page: str
    token: str
    runs: Path
    relay: RelayServer
    gateway: programs.Served
    stack: AsyncExitStack

    async def ask(self) -> dict[str, Any]:
        return await self.tab.value(ASK % self.token)  # type: ignore[no-any-return]

    async def fits(self) -> None:
        """Nothing is wider than the window, on a desk or on a telephone."""
        for width in WIDTHS:
            await self.tab.resize(width)
            # Less a scroll bar.
            await self.tab.until(f"Math.abs(document.documentElement.clientWidth - {width}) < 20")
            wide = await self.tab.value("document.documentElement.scrollWidth")
            assert wide <= width, f"{wide} px at {width}"


@pytest.fixture
async def seen(tmp_path: Path) -> AsyncIterator[Seen]:
    assert CHROMIUM is not None
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(tmp_path / "home", relay.url)
        await programs.run("init", env=env)
        gateway = await programs.serve("gateway", "--port", "0", env=env, stack=stack)
        tab = await stack.enter_async_context(tab_of(CHROMIUM, tmp_path / "browser"))
        token = Path(gateway.hello["token_file"]).read_text().strip()
        root = gateway.hello["page"].removesuffix("/")
        page = f"{root}/#key={token}"
        yield Seen(tab, root, page, token, tmp_path / "home" / "runs", relay, gateway, stack)
        assert tab.faults == []


async def printed_to_a_terminal(seen: Seen, env: dict[str, str]) -> str:
    """The address of the page of another gateway, as somebody before a terminal reads it."""
    reading, writing = pty.openpty()
    process = await programs.spawn("gateway", "--port", "0", "--json", env=env, stdout=writing)
    os.close(writing)
    seen.stack.push_async_callback(programs.Served(process, {}).kill)
    said = b""
    async with asyncio.timeout(programs.READY_S):
        while b"\n" not in said:
            said += await asyncio.to_thread(os.read, reading, 65_536)
    os.close(reading)
    return str(orjson.loads(said.partition(b"\n")[0])["page"])


async def test_the_printed_address_opens_the_page_once_and_the_token_opens_it_again(
    seen: Seen, tmp_path: Path
) -> None:
    tab = seen.tab
    # Output that is kept somewhere holds no code.
    assert "key=" not in seen.gateway.hello["page"]
    env = programs.environment(tmp_path / "home", seen.relay.url)
    seen.page = await printed_to_a_terminal(seen, env)
    seen.root = seen.page.partition("/#")[0]
    await tab.open(seen.root)
    await tab.until("!document.getElementById('locked').hidden")
    assert "gateway-token" in await tab.text("locked")
    await seen.fits()
    await tab.value("document.getElementById('key').value = 'wrong'; document.querySelector('#door button').click()")
    await tab.until("document.getElementById('wrong').innerText.startsWith('That is neither')")
    await seen.fits()
    await tab.open(seen.page)
    await tab.until("!document.getElementById('now').hidden")
    # Whoever looks over a shoulder, or at the history, finds no key.
    assert "key=" not in await tab.value("location.href")
    await tab.value("localStorage.clear()")
    await tab.open(seen.page)
    await tab.until("!document.getElementById('locked').hidden")
    typed = orjson.dumps(seen.token).decode()
    await tab.value(f"document.getElementById('key').value = {typed}; document.querySelector('#door button').click()")
    await tab.until("!document.getElementById('now').hidden && document.getElementById('locked').hidden")


async def test_what_listens_at_another_port_of_this_host_is_sent_nothing_that_opens_the_page(seen: Seen) -> None:
    tab, heads = seen.tab, list[str]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        writer.close()

    await tab.open(seen.page)
    await tab.until("!document.getElementById('now').hidden")
    stranger = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with stranger:
        port = stranger.sockets[0].getsockname()[1]
        await tab.open(f"http://127.0.0.1:{port}/")
        await tab.until("document.body.innerText === 'ok'")
        # As a page of its own does, whose site is the same.
        await tab.value("fetch('/more').then((said) => said.text())")
        assert await tab.value("localStorage.length") == 0
    assert len(heads) >= 2 and not [head for head in heads if "cookie:" in head or "authorization:" in head]


async def test_keys_can_be_had_whole_and_what_is_old_is_shown_as_old(seen: Seen, tmp_path: Path) -> None:
    tab = seen.tab
    env = programs.environment(tmp_path / "serving", seen.relay.url)
    await programs.run("init", env=env)
    node = await programs.start(env, seen.stack)
    gateway = await programs.serve("gateway", "--port", "0", env=env, stack=seen.stack)
    key = Path(gateway.hello["token_file"]).read_text().strip()
    await tab.open(f"{gateway.hello['page']}#key={key}")
    await tab.until("document.querySelector('#providers .copy') !== null")
    await seen.fits()
    npub = node.hello["npub"]
    assert await tab.value("document.querySelector('#providers td.mono').title") == npub
    # Its button is there for a finger and for the keyboard, and stays under it when the table is made anew.
    await tab.value("navigator.clipboard.writeText = async (text) => { window.got = text; }")
    await tab.value("window.first = document.querySelector('#providers .copy'); window.first.focus()")
    await tab.until("document.activeElement !== window.first && document.activeElement.className === 'copy'")
    await tab.value("document.activeElement.click()")
    await tab.until(f"window.got === {npub!r} && document.activeElement.textContent === 'copied'")
    await tab.until("document.getElementById('serving').innerText === 'ready'")
    # Of a price nothing is told that is nothing.
    prices = [Price(*map(Msat, rates)).rates() for rates in ((0, 0, 0), (500, 0, 0), (0, 0, 2000))]
    told = [await tab.value(f"price({{ price: {price} }})") for price in prices]
    assert [text.replace("play ", "") for text in told] == ["free", "0.5 sat per job", "2 sat out per 1,000 tokens"]
    # What is slow is not shown as nothing.
    assert [await tab.value(f"pace({speed})") for speed in (0.0004, 0.0234, 3.456, 1234.5)] == [
        "under 0.01", "0.023", "3.5", "1,235",
    ]  # fmt: skip
    before = "{ seconds: 61.4, spent: { calls: 1, msat: 2000 } }"
    again = await tab.value(f"heads.run({{ strategy: 'search', context: {{ chars: 3000 }}, before: {before} }})")
    assert again.startswith("begins: search, 3,000 characters of context; resumed after 61 s, 1 sub-call, 2 ")
    reserved = [await tab.value(f"heads.reserved({{ msat: 2000, calls: {calls} }})") for calls in ("[]", "['c1']")]
    assert [text.replace("play ", "") for text in reserved] == [
        "up to 2 sat reserved", "up to 2 sat reserved for 1 sub-call",
    ]  # fmt: skip
    # A model that is ready is no green light where nobody can ask it.
    away = """(async () => {
      const status = { ...(await get("/api/now")).status, hindrance: "no relay is connected, so `no one` can" };
      serving(status);
      return [$("serving").className, $("serving").textContent, $("serving-more").textContent];
    })()"""
    kind, word, more = await tab.value(away)
    assert (kind, word) == ("big wait", "ready, but not reachable") and more.startswith(
        "no relay is connected, so no one can"
    )
    await tab.until("document.getElementById('serving').innerText === 'ready'")
    old = "document.getElementById('main').classList.contains('old')"
    assert not await tab.value(old)
    node.process.send_signal(signal.SIGSTOP)
    try:
        await tab.until(old)
        assert (await tab.text("state")).startswith("the node has not answered since ")
        assert await tab.text("serving") == "no answer"
        # What was seen last stays.
        assert await tab.value("document.querySelector('#providers td.mono').title") == npub
        await seen.fits()
        # Whoever comes only now hears what to do, and takes play money for no other.
        await tab.open(f"{gateway.hello['page']}#key={key}")
        await tab.until("document.getElementById('serving').innerText === 'no node'")
        assert "pylon start" in await tab.text("serving-more")
        assert (await tab.text("asked-money")).endswith(" play sat")
        assert await tab.value("document.getElementById('providers').hidden") and await tab.text("providers-none")
        await seen.fits()
    finally:
        node.process.send_signal(signal.SIGCONT)
    await tab.until(f"!{old} && document.getElementById('serving').innerText === 'ready'")
    await gateway.stop()
    await tab.until(old)
    assert (await tab.text("state")).startswith("the gateway has not answered since ")


async def test_a_node_of_which_nothing_is_known_yet_has_words_for_it_and_a_prompt_that_nobody_takes_an_error(
    seen: Seen,
) -> None:
    tab = seen.tab
    await tab.open(seen.page)
    await tab.until("document.getElementById('state').innerText.includes('1 of 1 relay open')")
    assert await tab.text("serving") == "not serving"
    assert await tab.value("document.getElementById('jobs-card').hidden")
    assert await tab.text("asked") == "0 answered"
    assert await tab.text("providers-head") == "0 providers alive, 0 heard of"
    assert await tab.text("money") == "0 play sat"
    await seen.fits()
    refused = await seen.ask()
    assert (refused["status"], refused["code"]) == (503, "no_provider")
    await tab.until("document.getElementById('asked-more').innerText.includes('1 found no provider')")
    await tab.open(f"{seen.root}/runs")
    await tab.until("document.getElementById('list').innerText === 'None yet. Run pylon rlm to start one.'")
    await seen.fits()
    await tab.open(f"{seen.root}/runs#nothing")
    await tab.until("document.getElementById('runs-head').innerText === 'No such run'")


async def test_a_prompt_is_answered_piece_by_piece_and_the_page_counts_it(seen: Seen, tmp_path: Path) -> None:
    await serve(seen.stack, seen.relay, tmp_path / "provider.db", delay_s=4.0)
    tab = seen.tab
    await tab.open(seen.page)
    await tab.until("document.getElementById('providers-head').innerText.startsWith('1 provider alive')")
    await tab.until("document.getElementById('providers').innerText.includes('stand-in-instant')")
    await seen.fits()
    said = await seen.ask()
    assert said["status"] == 200
    lines = "".join(said["reads"]).split("\n\n")
    pieces = [orjson.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    texts = [piece["choices"][0]["delta"].get("content", "") for piece in pieces if piece["choices"]]
    assert "".join(texts).startswith("stand-in answer") and lines[-2] == "data: [DONE]"
    # Not all at once at the end.
    assert len([text for text in texts if text]) > 1 and len(said["reads"]) > 1
    await tab.until("document.getElementById('asked').innerText === '1 answered'")
    await seen.fits()


@pytest.mark.parametrize(
    ("reason", "answer", "shown", "told"),
    [
        ("interrupted", None, "interrupted", "ends: interrupted, without an answer; why"),
        ("budget", None, "over the budget", "ends: over the budget, without an answer; why"),
        ("budget", "7", "partial answer: over the budget", "ends: over the budget, the answer is partial; why"),
        ("final", "7", "partial answer", "ends: it found its answer, the answer is partial; why"),
    ],
)
async def test_a_run_that_did_not_come_to_a_whole_answer_says_why(
    seen: Seen, reason: str, answer: str | None, shown: str, told: str
) -> None:
    made = Trajectory(seen.runs / RUN, SystemClock())
    made.write("run", question=made.text("What?"), strategy="search", context={"chars": 3})
    said = None if answer is None else made.text(answer)
    made.write("final", answer=said, partial=True, reason=reason, detail="why", turns=0, spent={})
    made.close()
    tab = seen.tab
    await tab.open(seen.page)
    await tab.until("!document.getElementById('now').hidden")
    await tab.open(f"{seen.root}/runs")
    await tab.until("document.querySelector('#list a.mono') !== null")
    assert await tab.value("document.querySelectorAll('#list td')[1].innerText") == shown
    await tab.open(f"{seen.root}/runs/{RUN}")
    await tab.until(f"document.getElementById('runs-head').innerText === {RUN!r}")
    assert told in await tab.text("list")


async def test_a_run_is_listed_and_shows_its_answer_first(seen: Seen, tmp_path: Path) -> None:
    made = Trajectory(seen.runs / RUN, SystemClock())
    question = made.text("What is it? " + "W" * 300)
    made.write("run", question=question, strategy="search", root={"name": "r"}, sub={"name": "s"},
               limits={"depth": 1}, turns=1, context={"chars": 3})  # fmt: skip
    answer = made.text("<b>It is</b> " + "x" * 5_000)
    made.write("final", answer=answer, partial=False, reason="answered", detail="", turns=1, spent={})
    made.close()
    tab = seen.tab
    await tab.open(seen.page)
    await tab.until("!document.getElementById('now').hidden")
    assert "up to" not in await tab.text("asked-money")
    await tab.open(f"{seen.root}/runs")
    await tab.until("document.querySelector('#list a.mono') !== null")
    await seen.fits()
    await tab.value("document.querySelector('#list a.mono').click()")
    await tab.until(f"document.getElementById('runs-head').innerText === {RUN!r}")
    shown = await tab.text("list")
    # As text, whatever it holds.
    assert shown.index("<b>It is</b>") < shown.index("How it went")
    await seen.fits()
    await tab.value("document.querySelector('.answer button').click()")
    await tab.until("document.querySelector('.answer pre').innerText.length > 4999")
    await seen.fits()
    await tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    await tab.value("document.querySelector('#list p button').click()")
    saved = tmp_path / f"{RUN}.jsonl"
    await until(lambda: saved.exists(), within_s=PATIENCE_S)
    assert b'"metadata"' in saved.read_bytes()
