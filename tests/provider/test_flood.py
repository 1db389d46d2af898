"""A flood of fresh keys, each with one job, over a relay of its own process: what honest keys see meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from websockets.asyncio.client import connect

from pylon.bench.process import BenchProcess
from pylon.clock import SystemClock
from pylon.jobs.codes import ErrorCode
from pylon.jobs.request import JobRequest, private_draft
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from tests.customer import Customer

pytestmark = pytest.mark.slow

KEYS, A_SECOND = 4_000, 800
# The engine does twenty jobs a second.
SLOTS, JOB_S = 4, 0.2


@pytest.fixture
async def relay(tmp_path):
    settings = {"database": str(tmp_path / "relay.db"), "connections": 200}
    process = await BenchProcess.start("pylon.bench.relay", settings, tmp_path / "relay.log", timeout=30.0)
    yield SimpleNamespace(url=process.hello["url"])
    await process.close()


def requests(provider: str, count: int) -> list[Event]:
    now, made = int(SystemClock().wall()), []
    for number in range(count):
        key = SecretKey.generate()
        job = JobRequest(f"flood {number}", expiration=now + 600)
        made.append(key.sign(private_draft(job, provider, ConversationKeys(key), created_at=now)))
    return made


async def flood(url: str, events: Sequence[Event]) -> None:
    """Sends them from one connection, as fast as said above, and reads what comes back without a look at it."""
    frames = [b'["EVENT",%b]' % event.to_json() for event in events]
    async with connect(url) as connection:

        async def read() -> None:
            async for _ in connection:
                pass

        reader = asyncio.create_task(read())
        began = asyncio.get_running_loop().time()
        for number, frame in enumerate(frames):
            if number % 40 == 0:
                await asyncio.sleep(began + number / A_SECOND - asyncio.get_running_loop().time())
            await connection.send(frame, text=True)
        reader.cancel()


async def outcome(customer: Customer, provider: str) -> str:
    """`result`, the code of an error, or `nothing`."""
    request = await customer.ask(provider, customer.job())

    def over() -> list[str]:
        codes = [said.code.value for said in customer.feedback(request) if said.code is not None]
        return codes + ["result" for _ in customer.results(request)]

    try:
        return (await customer.until(over))[0]
    except TimeoutError:
        return "nothing"


async def test_in_a_flood_of_fresh_keys_known_and_trusted_ones_are_served_and_every_stranger_hears(
    relay, serve, another_customer
):
    friend, regular = await another_customer(), await another_customer()
    strangers = [await another_customer() for _ in range(10)]
    serving = await serve(delay_s=JOB_S, slots=SLOTS, trusted=frozenset({friend.secret.public}))
    assert await outcome(regular, serving.public) == "result"
    events = requests(serving.public, KEYS)
    flooding = asyncio.create_task(flood(relay.url, events))
    seen: dict[str, list[str]] = {"stranger": [], "regular": [], "friend": []}

    async def asks(name: str, customer: Customer) -> None:
        seen[name].append(await outcome(customer, serving.public))

    async with asyncio.TaskGroup() as asking:
        await asyncio.sleep(1.0)
        for stranger in strangers:
            for name, customer in (("stranger", stranger), ("regular", regular), ("friend", friend)):
                asking.create_task(asks(name, customer))
            await asyncio.sleep(0.3)
    await flooding
    assert Counter(seen["regular"]) == Counter(seen["friend"]) == {"result": 10}
    assert len(seen["stranger"]) == 10 and set(seen["stranger"]) <= {"result", ErrorCode.BUSY.value}
    # Nor does a key of the flood wait for a word: each has its job or its refusal.
    journal = serving.database
    for event in events:
        async with asyncio.timeout(20):
            while not await journal.fetch_all(
                "SELECT 1 FROM job WHERE id = ? UNION ALL SELECT 1 FROM refused_request WHERE id = ?",
                (event.id, event.id),
            ):
                await asyncio.sleep(0.05)
