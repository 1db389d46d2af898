"""What a call costs that is cancelled on its way, by the core's word and by the books: real processes, play money."""

import asyncio
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path

import pytest

from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.rlm.charges import Reserved
from pylon.rlm.sublm import Job
from tests.node import programs

# By its price list, of a short prompt and 16 tokens.
QUOTE = 660
BUDGET = 5_000


async def over(node: RemoteNode, names: list[str]) -> dict[str, dict[str, int]]:
    """What they came to; a call that was cancelled before it reached the core is not among them."""
    async with asyncio.timeout(30):
        while True:
            told = (await result_of(node, "reservations", {"names": names}))["reservations"]
            rows = {name: row for name, row in told.items() if row is not None}
            if all(row["over"] for row in rows.values()):
                return rows
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_calls_that_are_cancelled_cost_what_their_providers_may_charge_and_no_more(tmp_path):
    async with AsyncExitStack() as stack:
        keeper = programs.environment(tmp_path / "relay", "ws://127.0.0.1:9")
        await programs.run("init", env=keeper)
        relay = await programs.serve("relay", "--port", "0", env=keeper, stack=stack)

        async def home(name: str, **settings: str) -> dict[str, str]:
            env = programs.environment(tmp_path / name, relay.hello["url"], **settings)
            await programs.run("init", env=env)
            _, made, _ = await programs.run("wallet", "link", name, env=keeper)
            assert (await programs.run("wallet", "connect", "-", env=env, stdin=made["link"].encode()))[0] == 0
            return env

        price = {"PYLON_PROVIDER__PRICING": "paid", "PYLON_PROVIDER__BASE_MSAT": "500"}
        await programs.start(await home("provider", **price, PYLON_PROVIDER__OUT_MSAT_PER_1K="10000"), stack)
        customer = await home("customer", PYLON_CUSTOMER__BID_MSAT="5000")
        assert (await programs.run("wallet", "faucet", "2000", "--account", "customer", env=keeper))[0] == 0
        # Whatever holds a core of its own.
        await programs.serve("gateway", "--port", "0", env=customer, stack=stack)
        node = RemoteNode(Home(Path(customer["PYLON_HOME"])).socket)
        async with asyncio.timeout(60):
            while not (await result_of(node, "providers", {"wait_s": 0.2}))["providers"]:
                pass
        job = {"prompt": "How many legs has a spider?", "max_tokens": 16}

        async def ask(name: str) -> dict[str, object]:
            return await result_of(node, "ask", {"job": job, "budget_msat": BUDGET, "reservation": name})

        row = await ask("whole")
        [whole] = (await over(node, ["whole"])).values()
        assert whole["decided"] and whole["charged_msat"] == row["charged_msat"] > 0

        for number in range(1, 6):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01 * number):
                    await ask(f"cut {number}")
        names = [f"cut {number}" for number in range(1, 6)]
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                asked = SwarmSubLM(node).ask([Job("q", max_tokens=16)] * 3, budget_msat=BUDGET)
                async with aclosing(asked) as heard:
                    first = await anext(heard)
                    assert isinstance(first, Reserved)
                    names.append(first.name)
                    async for _ in heard:
                        pass
        rows = await over(node, names)
        assert all(0 <= row["charged_msat"] <= row["most_msat"] <= 6 * QUOTE <= BUDGET for row in rows.values())
        # What is charged all the same is known by then.
        await asyncio.sleep(3.0)
        rows = {"whole": whole, **await over(node, names)}
        _, books, _ = await programs.run("wallet", "audit", env=customer)
        assert books["audit"] == "clean"
        charged, most = (sum(each[name] for each in rows.values()) for name in ("charged_msat", "most_msat"))
        assert charged <= books["paid_msat"] <= most
