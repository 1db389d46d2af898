"""Jobs that are streamed and taken back, between processes: what was sent is paid for, and both books agree."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from pylon import config as settings
from pylon.node.bank import BankHost, bank_socket
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.session import LocalNode
from pylon.nostr.filter import Filter
from pylon.relay.server import RelayServer
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.runs.reservation import CallReservation
from tests.node import programs
from tests.node.homes import agreed, move_in
from tests.node.test_money_crash import ask
from tests.waiting import until

STORY = JobSpec("Tell a story.", max_tokens=200)
PROMPT_TOKENS = 9


class Storyteller:
    """A server of `/v1/chat/completions` whose answers are a word each twentieth of a second.

    Before the end is `let` it goes no further than the middle: whoever takes a story back does so in time.
    """

    def __init__(self, words: int = 150) -> None:
        self.words = words
        self.let = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Storyteller":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.let.set()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            if head.startswith("POST"):
                for number in range(self.words):
                    if number == self.words // 2:
                        await self.let.wait()
                    self._say(writer, {"delta": {"content": f"word{number} "}, "finish_reason": None})
                    await writer.drain()
                    await asyncio.sleep(0.05)
                self._say(writer, {"delta": {}, "finish_reason": "stop"})
                writer.write(b"data: [DONE]\n\n")
            writer.close()

    def _say(self, writer: asyncio.StreamWriter, choice: dict[str, object]) -> None:
        chunk = {"choices": [choice], "usage": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 150}}
        writer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


class Stage:
    """A relay with its playbank, a provider that charges 10 msat a token, a customer's home."""

    def __init__(
        self, folder: Path, stack: AsyncExitStack, relay: RelayServer, bank: RemoteNode, teller: Storyteller
    ) -> None:
        self.folder, self.stack, self.relay, self.bank, self.teller = folder, stack, relay, bank, teller
        self.provider = programs.environment(
            folder / "provider", relay.url, PYLON_INFERENCE__ENGINE="openai", PYLON_INFERENCE__OPENAI_URL=teller.url,
            PYLON_INFERENCE__MODEL="storyteller", PYLON_PROVIDER__PRICING="paid", PYLON_PROVIDER__BASE_MSAT="100",
            PYLON_PROVIDER__IN_MSAT_PER_1K="1000", PYLON_PROVIDER__OUT_MSAT_PER_1K="10000",
        )  # fmt: skip
        self.customer = programs.environment(folder / "customer", relay.url)

    async def move_in(self) -> None:
        for name in ("provider", "customer"):
            link = (await result_of(self.bank, "bank-link", {"account": name}))["link"]
            move_in(self.folder / name, link)
            await result_of(self.bank, "bank-faucet", {"account": name, "sats": 500})

    def home(self, name: str) -> Home:
        return Home(self.folder / name, "play")

    def core(self) -> Core:
        customer = {"bid_msat": 5_000, "check_share": 0.0}
        config = settings.parse({"network": "play", "relays": [self.relay.url], "customer": customer})
        return Core(self.home("customer"), config, serve=False)

    async def states(self, wanted: str) -> None:
        """Until the provider's first job is in this state."""
        await until(lambda: ask(self.provider, f"SELECT 1 FROM job WHERE state = '{wanted}'"), within_s=30)


async def listen(core: Core, pieces: int) -> list[str]:
    """Streams a story, and takes it back after so many pieces."""
    client = (await core.customer()).client
    assert await client.caught_up()
    heard: list[str] = []
    story = client.stream(STORY)
    async for piece in story:
        assert isinstance(piece, str), "the answer was whole before it was taken back"
        heard.append(piece)
        if len(heard) == pieces:
            break
    await story.aclose()
    return heard


@pytest.fixture
async def stage(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        await stack.enter_async_context(BankHost(tmp_path / "bank", relay.url))
        teller = await stack.enter_async_context(Storyteller())
        stage = Stage(tmp_path, stack, relay, RemoteNode(bank_socket(tmp_path / "bank")), teller)
        await stage.move_in()
        yield stage


def charges(stage: Stage) -> list[tuple]:
    return ask(stage.provider, "SELECT charge_msat, prompt_tokens, completion_tokens FROM job ORDER BY rowid")


async def test_a_story_that_is_taken_back_is_paid_as_far_as_it_was_heard_and_the_next_one_follows(stage):
    await programs.start(stage.provider, stage.stack)
    async with stage.core() as core:
        heard = await listen(core, 2)
        ours, theirs = await agreed(LocalNode(core), stage.home("provider"))
        [(charge, read, written)] = charges(stage)
        assert read == PROMPT_TOKENS
        # No more words than were heard, but for a piece that was on its way; nothing like all of them.
        assert len(heard[-1].split()) <= written < 100
        assert ours["paid_msat"] == theirs["earned_msat"] == charge == 100 + read + 10 * written
        # Nothing that was taken back is anybody's answer, and the account goes on.
        stage.teller.let.set()
        answer = await (await core.customer()).client.complete(STORY)
        assert isinstance(answer, Answer)
        assert len(answer.text.split()) == 150
        await agreed(LocalNode(core), stage.home("provider"))
        assert await core.opened.database.fetch_all("SELECT * FROM money_mirror WHERE ended IS NOT NULL") == []


async def test_a_story_that_is_taken_back_before_it_is_heard_costs_nothing_and_both_sides_know_it_at_once(stage):
    await programs.start(stage.provider, stage.stack)
    async with stage.core() as core:
        client, reservation = (await core.customer()).client, CallReservation(5_000)
        assert await client.caught_up()
        asking = asyncio.create_task(client.single(STORY, reservation=reservation))
        await stage.states("queued")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert reservation.most_msat > 0
        await until(lambda: reservation.decided, within_s=30)
        assert (reservation.charged_msat, reservation.most_msat) == (0, 0)
        # A relay has the word, so the journal need not keep it.
        await until(
            lambda: not ask(stage.provider, "SELECT 1 FROM job WHERE state <> 'cancelled' OR result NOT NULL"),
            within_s=30,
        )
        await agreed(LocalNode(core), stage.home("provider"))


@pytest.mark.slow
async def test_a_provider_that_dies_with_the_receipt_in_hand_publishes_the_same_one_after_its_restart(stage):
    serving = await programs.start(stage.provider, stage.stack)
    async with stage.core() as core:
        await listen(core, 1)
        await stage.states("signed")
        await serving.kill()
        [(signed,)] = ask(stage.provider, "SELECT result FROM job")
        await programs.start(stage.provider, stage.stack)
        await agreed(LocalNode(core), stage.home("provider"))
        published = await core.opened.pool.query((Filter(kinds=frozenset({6940})),))
        assert [event.id for event in published] == [json.loads(signed)["id"]]


@pytest.mark.slow
async def test_a_provider_that_dies_while_it_streams_charges_for_what_it_sent_when_that_is_taken_back(stage):
    serving = await programs.start(stage.provider, stage.stack)
    async with stage.core() as core:
        client = (await core.customer()).client
        assert await client.caught_up()
        story = client.stream(STORY)
        assert isinstance(await anext(story), str)
        await until(
            lambda: ask(stage.provider, "SELECT 1 FROM job WHERE state = 'queued' AND completion_tokens > 0"),
            within_s=30,
        )
        await serving.kill()
        sent = ask(stage.provider, "SELECT completion_tokens FROM job")[0][0]
        await story.aclose()
        await programs.start(stage.provider, stage.stack)
        await stage.states("settled")
        ours, theirs = await agreed(LocalNode(core), stage.home("provider"))
        [(charge, _, written)] = charges(stage)
        assert written >= sent > 0
        assert ours["paid_msat"] == theirs["earned_msat"] == charge > 100
        assert await core.opened.database.fetch_all("SELECT * FROM money_mirror WHERE ended IS NOT NULL") == []


TAKES_BACK_AND_DIES = """
import asyncio, os, sys
from pathlib import Path
from tests.node.test_taken_back import Stage, listen
from pylon import config as settings
from pylon.node.core import Core
from pylon.node.home import Home

async def main():
    customer = {"bid_msat": 5_000, "check_share": 0.0}
    config = settings.parse({"network": "play", "relays": [sys.argv[2]], "customer": customer})
    async with Core(Home(Path(sys.argv[1]), "play"), config, serve=False) as core:
        await listen(core, 1)
        await (await core.customer()).client._parts.outbox.close(within=5.0)
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_customer_that_dies_after_it_took_a_job_back_books_the_receipt_when_it_is_back(stage):
    await programs.start(stage.provider, stage.stack)
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TAKES_BACK_AND_DIES, str(stage.folder / "customer"), stage.relay.url, env=stage.customer
    )
    assert await asyncio.wait_for(dying.wait(), 60) == -9
    await stage.states("settled")
    async with stage.core() as core:
        ours, _ = await agreed(LocalNode(core), stage.home("provider"))
        assert ours["paid_msat"] == charges(stage)[0][0] > 100
        assert await core.opened.database.fetch_all("SELECT * FROM money_mirror WHERE ended IS NOT NULL") == []
