"""What commands print as JSON is spelt one way, which docs/json.md describes."""

from contextlib import AsyncExitStack

import orjson
import pytest

from tests.node import programs
from tests.node.spelling import misspelt

KEY = "ab" * 32
NOW = 1_790_000_000


@pytest.mark.parametrize(
    "value",
    [
        {"provider": KEY}, {"providers": {KEY: {}}}, {"accounts": {f"customer:{KEY}": 1}}, {"rows": [{"head": KEY}]},
        {"msat": 1}, {"sats": 1}, {"caps_sat": 1}, {"paid_msat": 1.5}, {"msat_spent": 1},
        {"since": NOW}, {"at": NOW + 0.5}, {"until": 1_000 * NOW}, {"opened_at_all": "2026-11-29T08:00:00+00:00"},
        {"seconds": 3}, {"ms": 3}, {"wall": 1.5},
    ],
    ids=str,
)  # fmt: skip
def test_a_field_that_is_spelt_otherwise_is_found(value):
    assert list(misspelt(value))


def test_what_follows_the_rule_is_let_pass():
    fine = {
        "provider": "npub1x", "sha256": KEY, "paid_msat": 1, "in_msat_per_1k": 2, "wall_s": 1.5, "run_ms": 3,
        "sent_at": NOW + 0.5, "began_local": "2026-11-29T08:00:00+00:00", "trust": 0.5, "kwh": 0.1,
    }  # fmt: skip
    assert not list(misspelt({"rows": [fine]}))


async def test_commands_spell_keys_money_and_times_as_their_page_says(tmp_path):
    async with AsyncExitStack() as stack:
        keeper = programs.environment(tmp_path / "relay", "ws://127.0.0.1:9")
        await programs.run("init", env=keeper)
        relay = await programs.serve("relay", "--port", "0", env=keeper, stack=stack)
        node = programs.environment(
            tmp_path / "node", relay.hello["url"], PYLON_PROVIDER__PRICING="paid", PYLON_PROVIDER__BASE_MSAT="500"
        )
        asker = programs.environment(tmp_path / "asker", relay.hello["url"], PYLON_CUSTOMER__BID_MSAT="5000")
        for name, env in (("node", node), ("asker", asker)):
            await programs.run("init", env=env)
            _, made, _ = await programs.run("wallet", "link", name, env=keeper)
            await programs.run("wallet", "connect", "-", env=env, stdin=made["link"].encode())
        await programs.run("wallet", "faucet", "100", "--account", "asker", env=keeper)
        await programs.start(node, stack)
        await programs.loaded(node)

        async def said(*command, env):
            """`programs.run` looks at how it is spelt."""
            code, printed, told = await programs.run(*command, env=env)
            assert code == 0, told
            return printed

        prompts = tmp_path / "prompts.jsonl"
        prompts.write_bytes(
            b"".join(orjson.dumps({"prompt": f"line {n}", "max_tokens": 8}) + b"\n" for n in range(3))
        )
        assert (await said("map", str(prompts), "--dry-run", env=asker))["most_msat"] > 0
        mapped = await said("map", str(prompts), env=asker)
        (tmp_path / "text.txt").write_text("The magic number of owl is 4711.\n" * 9)
        asked = ("rlm", "Which number?", "-c", str(tmp_path / "text.txt"), "--strategy", "map-reduce")
        _, report, _ = await programs.run(*asked, env=asker)
        await said("ask", "hello", env=asker)
        seen = await said("providers", env=asker)
        [provider] = [row["provider"] for row in seen["providers"]]
        assert {row["provider"] for row in mapped["outcomes"]} == set(mapped["providers"]) == {provider}
        assert report["providers"] == [provider] and report["paid_msat"] == report["spent"]["paid_msat"] > 0
        assert (await said("providers", "--why", provider, env=asker))["provider"] == provider
        customer = (await said("identity", "show", env=asker))["npub"]
        assert {row["customer"] for row in (await said("jobs", env=node))["jobs"]} == {customer}
        earned = await said("earnings", "--by", "customer", env=node)
        assert [line["group"] for line in earned["lines"]] == [customer]
        assert f"provider:{provider}" in (await said("wallet", "balance", env=asker))["accounts"]
        books = await said("wallet", "audit", env=asker)
        assert books["paid_msat"] == earned["total"]["earned_msat"] <= books["sent_msat"]
        for command in ("wallet history", "rlm list", "price show", "wallet decide", "wallet trust-payee"):
            await said(*command.split(), env=asker)
        for command in ("status", "earnings", "price show", "models list", "wallet history"):
            await said(*command.split(), env=node)
