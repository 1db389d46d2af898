"""`pylon gateway` as a process that pays: a playbank, a provider that charges, and a budget that is too small."""

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.node import programs

REQUESTS = 60
SATS = 20
LEFT = 4
QUOTE = 660


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_gateway_never_spends_more_than_it_may_and_the_books_say_so(tmp_path):
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
        provider = await home("provider", **price, PYLON_PROVIDER__OUT_MSAT_PER_1K="10000")
        await programs.start(provider, stack)
        customer = await home("customer", PYLON_CUSTOMER__BID_MSAT="5000")
        assert (await programs.run("wallet", "faucet", "2000", "--account", "customer", env=keeper))[0] == 0
        gateway = await programs.serve("gateway", "--port", "0", "--sats", str(SATS), env=customer, stack=stack)
        key = Path(gateway.hello["token_file"]).read_text().strip()
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=gateway.hello["url"], headers=headers, timeout=120) as client:
            async with asyncio.timeout(60):
                while len((await client.get("models")).json()["data"]) < 3:
                    await asyncio.sleep(0.2)

            async def ask(number: int) -> httpx.Response:
                messages = [{"role": "user", "content": f"line {number}"}]
                return await client.post("chat/completions", json={"messages": messages, "max_tokens": 16})

            # Clients that hang up hold no more of the budget than what their providers may charge.
            for number in range(LEFT):
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await ask(number)
            responses = await asyncio.gather(*map(ask, range(REQUESTS)))
            metrics = (await client.get(gateway.hello["url"].removesuffix("v1") + "metrics")).text
        answered = [response.json() for response in responses if response.status_code == 200]
        assert {response.status_code for response in responses} == {200, 402}
        # By what they quote a request takes 660 msat, and twice that with a second try; each took less.
        assert (SATS * 1_000 - LEFT * QUOTE) // (2 * QUOTE) < len(answered) < REQUESTS
        charged = sum(said["pylon"]["paid_msat"] for said in answered)
        assert 0 < charged <= SATS * 1_000
        _, books, _ = await programs.run("wallet", "audit", env=customer)
        assert books["audit"] == "clean" and charged <= books["paid_msat"] <= SATS * 1_000
        values = dict(
            line.split() for line in metrics.splitlines() if line.startswith("pylon_gateway_") and "{" not in line
        )
        spent, still = (int(values[f"pylon_gateway_{name}_msat"]) for name in ("spent", "open"))
        assert books["paid_msat"] <= spent + still <= SATS * 1_000
        assert still <= LEFT * QUOTE
        assert await gateway.stop() == 0
