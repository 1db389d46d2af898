"""nostr-sdk as customer of our provider, and as provider of our customer, over our relay."""

import asyncio
import time

import orjson

from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.intake import refusals, shared_refusals
from pylon.provider.refusal_budget import RefusalLimits
from pylon.swarm.client import SwarmClient
from tests.interop.sdk import peer, tags_of

PROMPT = "How many legs has a spider?"


async def test_a_plain_nip90_customer_of_nostr_sdk_gets_a_valid_result(relay, serve):
    serving = await serve()
    async with peer(relay.url) as customer:
        tags = [["i", PROMPT, "text"], ["param", "max_tokens", "32"], ["p", serving.public], ["output", "text/plain"]]
        request = await customer.send(5050, "", tags)
        result = await customer.heard(6050)
        assert result.verify() and result.author().to_hex() == serving.public
        about = tags_of(result)
        assert about["e"] == [request.id().to_hex()] and about["p"] == [customer.public]
        assert about["i"] == [PROMPT, "text"]
        assert orjson.loads(about["request"][0])["id"] == request.id().to_hex()
        assert "spider" in result.content()


async def test_our_provider_serves_what_nostr_sdk_sealed_and_nostr_sdk_opens_the_result(relay, serve):
    serving = await serve()
    async with peer(relay.url) as customer:
        payload = {"text": PROMPT, "tags": [["i", "", "text"], ["param", "max_tokens", "32"]]}
        outside = [["p", serving.public], ["encrypted"], ["v", "pylon/1"]]
        request = await customer.send(5940, customer.seal(serving.public, payload), outside)
        result = await customer.heard(6940)
        assert result.verify() and tags_of(result)["e"] == [request.id().to_hex()]
        assert "spider" not in result.as_json()
        opened = customer.open(result)
        assert "spider" in opened["text"]
        assert {tag[0] for tag in opened["tags"]} >= {"model", "usage", "timing", "finish"}


async def test_nostr_sdk_opens_our_refusal(relay, serve):
    serving = await serve()
    async with peer(relay.url) as customer:
        payload = {"text": PROMPT, "tags": [["i", "", "text"], ["param", "model", "no-such-model"]]}
        outside = [["p", serving.public], ["encrypted"], ["v", "pylon/1"]]
        await customer.send(5940, customer.seal(serving.public, payload), outside)
        feedback = await customer.heard(7000)
        assert ["status", "error", "unsupported_model"] in customer.open(feedback)["tags"]


async def test_nostr_sdk_finds_itself_among_those_whom_we_refuse_in_one_event(relay, serve, monkeypatch):
    monkeypatch.setattr(refusals, "STRANGERS", RefusalLimits(total_burst=0.0, total_per_s=0.0))
    # Long enough for both to be asked about together.
    monkeypatch.setattr(shared_refusals, "GATHER_S", 2.0)
    serving = await serve()
    async with peer(relay.url) as first, peer(relay.url) as second:
        asked = []
        for customer in (first, second):
            payload = {"text": PROMPT, "tags": [["i", "", "text"], ["param", "model", "no-such-model"]]}
            outside = [["p", serving.public], ["encrypted"], ["v", "pylon/1"]]
            request = await customer.send(5940, customer.seal(serving.public, payload), outside)
            asked.append(request.id().to_hex())
        shared = await first.heard(7000)
        assert shared.id() == (await second.heard(7000)).id()
        tags = [tag.to_vec() for tag in shared.tags()]
        assert ["status", "error", "unsupported_model"] in tags and ["encrypted"] not in tags
        assert [tag[1] for tag in tags if tag[0] == "e"] == asked
        assert [tag[1] for tag in tags if tag[0] == "p"] == [first.public, second.public]


async def test_our_customer_is_answered_by_a_sealing_provider_of_nostr_sdk(relay):
    async with peer(relay.url) as provider:
        now = int(time.time())
        announced = [["d", "x"], ["k", "5940"], ["model", "theirs", "", "", "4096"], ["v", "pylon/1"]]
        await provider.send(31990, "{}", [*announced, ["price", "0", "0", "0"], ["network", "play"]])
        beat = [["d", "x"], ["expiration", str(now + 120)], ["v", "pylon/1"]]
        await provider.send(11998, '{"slots":1,"slots_free":1}', beat)

        async def serve_one() -> dict:
            request = await provider.heard(5940)
            asked = provider.open(request)
            customer = request.author().to_hex()
            sealed = provider.seal(customer, {"text": "eight", "tags": [["model", "theirs", "", ""]]})
            outside = [["e", request.id().to_hex()], ["p", customer], ["encrypted"], ["v", "pylon/1"]]
            await provider.send(6940, sealed, outside)
            return asked

        serving = asyncio.create_task(serve_one())
        secret = SecretKey.generate()
        pool = RelayPool([relay.url], secret=secret)
        pool.start()
        async with SwarmClient(pool, secret) as swarm:
            answer = await swarm.complete(PROMPT, max_tokens=16)
        await pool.close()
        asked = await serving
        assert (asked["text"], answer.text, answer.model) == (PROMPT, "eight", "theirs")
        assert ["param", "max_tokens", "16"] in asked["tags"]
        assert answer.provider == provider.public and answer.attempts == 1
