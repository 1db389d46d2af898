"""Paid runs through the commands alone: playbank, providers that charge, a customer with a budget."""

from contextlib import AsyncExitStack

import orjson
import pytest

from tests.node import programs

JOBS = 200


async def test_two_hundred_paid_jobs_take_few_payments_and_both_sides_agree_to_the_msat(tmp_path):
    async with AsyncExitStack() as stack:
        keeper = programs.environment(tmp_path / "relay", "ws://127.0.0.1:9")
        await programs.run("init", env=keeper)
        relay = await programs.serve("relay", "--port", "0", env=keeper, stack=stack)
        assert relay.hello["playbank"] is True

        async def home(name: str, **settings: str) -> dict[str, str]:
            env = programs.environment(tmp_path / name, relay.hello["url"], **settings)
            await programs.run("init", env=env)
            _, made, _ = await programs.run("wallet", "link", name, env=keeper)
            code, _, _ = await programs.run("wallet", "connect", "-", env=env, stdin=made["link"].encode())
            assert code == 0
            return env

        prices = {"PYLON_PROVIDER__PRICING": "paid", "PYLON_PROVIDER__BASE_MSAT": "500"}
        tokens = {"PYLON_PROVIDER__OUT_MSAT_PER_1K": "10000", "PYLON_INFERENCE__INSTANT_DELAY_S": "0.05"}
        providers = [await home(f"provider-{n}", **prices, **tokens) for n in (1, 2)]
        for env in providers:
            await programs.start(env, stack)
        # Without second opinions, which cost beside the answers: what answers cost is what was earned.
        customer = await home("customer", PYLON_CUSTOMER__BID_MSAT="5000", PYLON_CUSTOMER__CHECK_SHARE="0")
        assert (await programs.run("wallet", "faucet", "2000", "--account", "customer", env=keeper))[0] == 0

        prompts = b"".join(orjson.dumps({"prompt": f"line {n}", "max_tokens": 16}) + b"\n" for n in range(JOBS))
        code, mapped, text = await programs.run("map", "-", env=customer, stdin=prompts)
        assert (code, mapped["answered"]) == (0, JOBS), text
        assert len(mapped["providers"]) == 2

        _, spent, _ = await programs.run("wallet", "audit", env=customer)
        assert spent["audit"] == "clean", spent
        assert 1 <= spent["payments"] <= 6
        earned = {}
        for env in providers:
            _, books, _ = await programs.run("wallet", "audit", env=env)
            assert books["audit"] == "clean", books
            _, lines, _ = await programs.run("earnings", "--by", "customer", env=env)
            _, shown, _ = await programs.run("identity", "show", env=env)
            earned[shown["npub"]] = lines["total"]["earned_msat"]
        assert {key: row["paid_msat"] for key, row in mapped["providers"].items()} == earned
        assert sum(earned.values()) == sum(row["paid_msat"] for row in mapped["outcomes"]) > 0
        _, wallet, _ = await programs.run("wallet", "balance", env=customer)
        assert wallet["balance_msat"] == 2_000_000 - spent["sent_msat"]


@pytest.mark.slow
async def test_a_wallet_that_holds_less_than_a_usual_deposit_is_spent_on_jobs_to_its_last_sats(tmp_path):
    async with AsyncExitStack() as stack:
        keeper = programs.environment(tmp_path / "relay", "ws://127.0.0.1:9")
        await programs.run("init", env=keeper)
        relay = await programs.serve("relay", "--port", "0", env=keeper, stack=stack)
        homes = {
            "provider": {"PYLON_PROVIDER__PRICING": "paid", "PYLON_PROVIDER__BASE_MSAT": "1000"},
            "customer": {"PYLON_CUSTOMER__BID_MSAT": "5000", "PYLON_CUSTOMER__CHECK_SHARE": "0"},
        }
        made = {name: programs.environment(tmp_path / name, relay.hello["url"], **homes[name]) for name in homes}
        for name, env in made.items():
            await programs.run("init", env=env)
            _, link, _ = await programs.run("wallet", "link", name, env=keeper)
            await programs.run("wallet", "connect", "-", env=env, stdin=link["link"].encode())
        await programs.start(made["provider"], stack)
        customer = made["customer"]
        await programs.run("wallet", "faucet", "16", "--account", "customer", env=keeper)
        # After its first jobs were done well, a provider is offered more than that.
        prompts = b"".join(orjson.dumps({"prompt": f"line {n}", "max_tokens": 16}) + b"\n" for n in range(60))
        _, mapped, text = await programs.run("map", "-", env=customer, stdin=prompts)
        assert mapped["answered"] == 16, text
        _, books, _ = await programs.run("wallet", "audit", env=customer)
        assert (books["audit"], books["paid_msat"], books["sent_msat"]) == ("clean", 16_000, 16_000), books
        _, wallet, _ = await programs.run("wallet", "balance", env=customer)
        assert wallet["balance_msat"] == 0
