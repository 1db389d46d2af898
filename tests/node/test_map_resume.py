"""`pylon map` killed again and again: taken up, it answers every prompt, and nothing is paid twice."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack, closing
from pathlib import Path

import orjson
import pytest

from pylon.node import identity
from pylon.node.home import Home
from tests.node import programs
from tests.waiting import until


async def killed(*arguments: str, env: dict[str, str], database: Path, answers: int) -> None:
    """Starts a command and kills it (kill -9) once so many answers are written down."""
    process = await programs.spawn(*arguments, env=env, stderr=asyncio.subprocess.DEVNULL)
    await until(lambda: process.returncode is not None or answered(database) >= answers, within_s=100)
    assert process.returncode is None, "it was to be killed before it was done"
    process.kill()
    await process.communicate()


def made_home(folder: Path) -> None:
    """As `pylon init` makes it."""
    home = Home(folder, "play")
    home.create()
    identity.create(home.identity_file)


def answered(database: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
            return int(books.execute("SELECT count(*) FROM swarm_outcome").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it has not made the file or its tables yet


def requests(database: Path) -> int:
    with closing(sqlite3.connect(database)) as books:
        return int(books.execute("SELECT count(*) FROM swarm_request").fetchone()[0])


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("jobs", "slots", "kills"), [(40, 2, 1), pytest.param(500, 8, 5, marks=pytest.mark.slow)])
async def test_a_map_killed_again_and_again_answers_everything_and_pays_nothing_twice(
    tmp_path: Path, jobs: int, slots: int, kills: int
) -> None:
    async with AsyncExitStack() as stack:
        keeper = programs.environment(tmp_path / "relay", "ws://127.0.0.1:9")
        made_home(tmp_path / "relay")
        relay = await programs.serve("relay", "--port", "0", env=keeper, stack=stack)

        async def home(name: str, **settings: str) -> dict[str, str]:
            env = programs.environment(tmp_path / name, relay.hello["url"], **settings)
            made_home(tmp_path / name)
            _, made, _ = await programs.run("wallet", "link", name, env=keeper)
            await programs.run("wallet", "connect", "-", env=env, stdin=made["link"].encode())
            return env

        prices = {"PYLON_PROVIDER__PRICING": "paid", "PYLON_PROVIDER__BASE_MSAT": "500"}
        # What is left after an answer has to take seconds: on a busy machine the kill comes late.
        slow = {"PYLON_INFERENCE__INSTANT_DELAY_S": "0.3", "PYLON_INFERENCE__SLOTS": str(slots)}
        # Whoever is killed while a payment is on its way asks that provider again when the outcome is known, which
        # may be a quarter of an hour later: until then there has to be another.
        providers = [await home(f"provider-{n}", **prices, **slow) for n in range(2)]
        for env in providers:
            await programs.start(env, stack)
        # Without checks every job is one question: what is charged can be counted.
        customer = await home("customer", PYLON_CUSTOMER__BID_MSAT="5000", PYLON_CUSTOMER__CHECK_SHARE="0")
        await programs.run("wallet", "faucet", "5000", "--account", "customer", env=keeper)
        prompts = tmp_path / "prompts.jsonl"
        prompts.write_bytes(
            b"".join(orjson.dumps({"prompt": f"line {n}", "max_tokens": 8}) + b"\n" for n in range(jobs))
        )
        results = tmp_path / "results.csv"
        command = ("map", str(prompts), "-o", str(results), "--resume", "--sats", "2000")
        database = tmp_path / "customer" / "play" / "pylon.db"
        for n in range(kills):
            # The first one begins: there is nothing yet to take up.
            await killed(
                *(command if n else (one for one in command if one != "--resume")),
                env=customer,
                database=database,
                answers=1 + n * jobs // (kills + 1),
            )
        code, mapped, text = await programs.run(*command, env=customer)
        assert (code, mapped["answered"], mapped["resumed"]) == (0, jobs, True), text
        assert [row["index"] for row in mapped["outcomes"]] == list(range(jobs))
        assert all(f"line {n}" in row["text"] for n, row in enumerate(mapped["outcomes"]))
        assert len(results.read_text().splitlines()) == jobs + 1

        # Again: everything is there, and nobody is asked anything.
        asked = requests(database)
        _, once_more, _ = await programs.run(*command, env=customer)
        assert once_more["outcomes"] == mapped["outcomes"] and requests(database) == asked
        charged = Counter[str]()
        for env in providers:
            _, books, _ = await programs.run("wallet", "audit", env=env)
            assert books["audit"] == "clean", books
            _, earned, _ = await programs.run("earnings", "--by", "customer", env=env)
            charged["msat"] += earned["total"]["earned_msat"]
        assert charged["msat"] == sum(row["paid_msat"] for row in mapped["outcomes"])
        _, spent, _ = await programs.run("wallet", "audit", env=customer)
        assert spent["audit"] == "clean", spent
        with closing(sqlite3.connect(database)) as books:
            claims = "SELECT count(*) FROM money_claim c JOIN swarm_request r ON r.request = c.job GROUP BY r.place"
            assert books.execute(claims).fetchall() == [(1,)] * jobs
