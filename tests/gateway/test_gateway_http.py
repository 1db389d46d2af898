"""The gateway's routes, in this process; a stand-in for the core behind them."""

import asyncio

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pylon.errors import PylonError, UnreachableError
from pylon.gateway.app import GatewaySettings
from pylon.gateway.bodies import MOST_MARKS
from pylon.gateway.chat import MOST_MESSAGES
from pylon.gateway.upstream import Ended, Said
from pylon.jobs.parameters import MAX_SCHEMA
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.sections import GatewaySection
from tests.gateway.fakes import CHAT, TOKEN, FakeCore, answer, client_of, failure, gateway_of, listing

URL = "/v1/chat/completions"


async def posted(tmp_path, core, **more):
    async with client_of(gateway_of(core, tmp_path)) as client:
        return await client.post(URL, json={**CHAT, **more})


def chunks(response):
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else orjson.loads(line) for line in lines]


async def test_an_answer_is_a_chat_completion(tmp_path):
    core = FakeCore(lambda _: [Ended(answer("hello", charged=5))])
    response = await posted(tmp_path, core)
    said = response.json()
    assert response.status_code == 200 and said["object"] == "chat.completion"
    assert said["choices"][0]["message"] == {"role": "assistant", "content": "hello", "refusal": None}
    assert said["choices"][0]["finish_reason"] == "stop"
    assert said["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert said["model"] == "m-1" and said["id"].startswith("chatcmpl-cdcd")
    assert said["pylon"]["msat"] == 5 and said["pylon"]["provider"].startswith("npub1")
    assert response.headers["x-pylon-msat"] == "5" and response.headers["x-pylon-verified"] == "signature"


@pytest.mark.parametrize(
    ("finish", "told"), [("stop", "stop"), ("length", "length"), ("size", "length"), (None, "stop")]
)
async def test_why_it_ended_is_told_in_their_words(tmp_path, finish, told):
    response = await posted(tmp_path, FakeCore(lambda _: [Ended(answer(finish=finish))]))
    assert response.json()["choices"][0]["finish_reason"] == told


async def test_usage_is_three_numbers_when_the_provider_counted_nothing(tmp_path):
    said = (await posted(tmp_path, FakeCore(lambda _: [Ended(answer("12345", usage=None))]))).json()
    assert said["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert said["pylon"]["usage_estimated"] is True


async def test_headers_hold_nothing_that_a_stranger_could_break_them_with(tmp_path):
    response = await posted(tmp_path, FakeCore(lambda _: [Ended(answer(sha256="a\r\nx-evil: 1é"))]))
    assert "x-evil" not in response.headers and response.status_code == 200


@pytest.mark.parametrize(
    ("row", "status", "retry"),
    [
        (failure("no_provider"), 503, True), (failure("unheard"), 503, True), (failure("exhausted"), 503, True),
        (failure("not_sent"), 503, True), (failure("cancelled"), 503, True), (failure("deadline"), 504, False),
        (failure("budget"), 402, False), (failure("too_large"), 413, False), (failure("malformed"), 400, False),
        (failure("refused", "too_large"), 400, False), (failure("refused", "busy"), 503, True),
        (failure("refused", "unsupported_param"), 400, False), (failure("refused", None), 503, True),
        (failure("exhausted", "engine_failed"), 503, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_has_the_status_of_its_kind(tmp_path, row, status, retry, stream):
    response = await posted(tmp_path, FakeCore(lambda _: [Ended(row)]), stream=stream)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and "do this" in error["message"]
    assert ("retry-after" in response.headers) is retry


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnreachableError("no node"), 503),
        (PylonError("full disk"), 500),
        (ZeroDivisionError("a detail of ours"), 500),
    ],
)
async def test_an_error_of_the_core_has_a_status_and_tells_no_detail_of_ours(tmp_path, error, status):
    response = await posted(tmp_path, FakeCore(lambda _: [error]))
    assert response.status_code == status and "detail" not in response.text


async def test_a_stream_is_made_of_pieces_and_ends_with_usage_when_asked(tmp_path):
    core = FakeCore(lambda _: [Said("he"), Said("hello"), Ended(answer("hello!"))])
    response = await posted(tmp_path, core, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *said, done = chunks(response)
    assert done == "[DONE]" and len({chunk["id"] for chunk in said}) == 1
    assert [c["choices"][0]["delta"].get("content") for c in said[:-2]] == ["", "he", "llo", "!"]
    assert said[-2]["choices"][0]["finish_reason"] == "stop" and said[-2]["pylon"]["attempts"] == 1
    assert said[-1]["choices"] == [] and said[-1]["usage"]["total_tokens"] == 5
    without = chunks(await posted(tmp_path, core, stream=True))
    assert "usage" not in without[-2] and len(without) == len(said)


async def test_a_stream_whose_answer_began_anew_ends_with_an_error(tmp_path):
    core = FakeCore(lambda _: [Said("he"), Ended(answer("other"))])
    *_, last = chunks(await posted(tmp_path, core, stream=True))
    assert last["error"]["code"] == "answer_began_anew"


async def test_a_stream_that_fails_later_ends_with_an_error(tmp_path):
    core = FakeCore(lambda _: [Said("he"), Ended(failure("deadline"))])
    *_, last = chunks(await posted(tmp_path, core, stream=True))
    assert last["error"]["code"] == "deadline"


async def test_models_are_those_that_ready_providers_offer(tmp_path):
    core = FakeCore(providers=[listing("a/b"), listing("a/b"), listing("c", state="paused (owner)")])
    async with client_of(gateway_of(core, tmp_path)) as client:
        models = (await client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in models] == ["any", "default", "a/b"]
        assert models[2]["pylon"]["providers"] == 2 and models[2]["pylon"]["slots"] == 8
        assert (await client.get("/v1/models/a/b")).json()["id"] == "a/b"
        missing = await client.get("/v1/models/c")
        assert missing.status_code == 404 and missing.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", URL, 405), ("POST", "/v1/models", 405)]
)
async def test_another_path_or_method_is_told_in_the_same_shape(tmp_path, method, path, status):
    async with client_of(gateway_of(FakeCore(), tmp_path)) as client:
        response = await client.request(method, path)
    assert response.status_code == status and set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_no_token_no_answer_and_no_question(tmp_path):
    core = FakeCore()
    async with client_of(gateway_of(core, tmp_path), token="wrong") as client:
        response = await client.post(URL, json=CHAT)
    assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer" and not core.asked


async def test_another_host_or_origin_is_turned_away(tmp_path):
    core = FakeCore()
    gateway = gateway_of(core, tmp_path)
    async with client_of(gateway, host="evil.example") as client:
        assert (await client.post(URL, json=CHAT)).status_code == 403
    async with client_of(gateway) as client:
        evil = await client.post(URL, json=CHAT, headers={"origin": "https://evil.example"})
        assert evil.status_code == 403 and "access-control-allow-origin" not in evil.headers
        broken = await client.post(URL, json=CHAT, headers={"origin": "http://["})
        assert broken.status_code == 403
    assert not core.asked


async def test_a_body_over_the_limit_is_refused(tmp_path):
    core = FakeCore()
    async with client_of(gateway_of(core, tmp_path, max_body_bytes=200)) as client:
        response = await client.post(URL, json={**CHAT, "user": "x" * 200})
        assert response.status_code == 413

        async def pieces():
            for _ in range(300):
                yield b"x"

        assert (await client.post(URL, content=pieces())).status_code == 413
        assert (await client.post(URL, json=CHAT)).status_code == 200
    assert len(core.asked) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (orjson.dumps({**CHAT, "n": 2}), 400, "unsupported_value"),
        (b"[" + b"[]," * MOST_MARKS + b"[]]", 413, "too_large"),
        (orjson.dumps({"messages": CHAT["messages"] * 2_049}), 400, "invalid_value"),
        (orjson.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 2_049}]}), 400,
         "invalid_value"),
    ],
)  # fmt: skip
async def test_a_body_that_is_refused_counts_as_a_request(tmp_path, body, status, code):
    gateway = gateway_of(FakeCore(), tmp_path)
    async with client_of(gateway) as client:
        response = await client.post(URL, content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert gateway.asks.tally.outcomes == {code: 1}


async def test_as_many_messages_as_openai_takes_are_taken(tmp_path):
    core = FakeCore()
    async with client_of(gateway_of(core, tmp_path)) as client:
        assert (await client.post(URL, json={"messages": CHAT["messages"] * 2_048})).status_code == 200
    assert len(core.asked[0]["messages"]) == 2_048


async def test_what_anybody_may_see_needs_no_token_for_its_head_either(tmp_path):
    async with client_of(gateway_of(FakeCore(), tmp_path), token=None) as client:
        for path in ("/", "/runs", "/health"):
            assert (await client.head(path)).status_code == 200
        assert (await client.head("/api/now")).status_code == 401


async def test_a_wrong_method_is_told_which_ones_there_are(tmp_path):
    async with client_of(gateway_of(FakeCore(), tmp_path)) as client:
        assert (await client.get(URL)).headers["allow"] == "POST"
        assert set((await client.delete("/v1/models")).headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_more_requests_than_are_taken_are_told_to_come_back(tmp_path):
    go = asyncio.Event()
    core = FakeCore(lambda _: [go, Ended(answer())])
    async with client_of(gateway_of(core, tmp_path, max_requests=2)) as client:
        first = [asyncio.create_task(client.post(URL, json=CHAT)) for _ in range(2)]
        while core.under_way < 2:
            await asyncio.sleep(0.01)
        third = await client.post(URL, json=CHAT)
        assert third.status_code == 429 and third.headers["retry-after"] == "1"
        go.set()
        assert [response.status_code for response in await asyncio.gather(*first)] == [200, 200]


async def test_the_budget_holds_whatever_is_asked_at_once(tmp_path):
    def says(_):
        return [Ended(answer(charged=7))]

    core = FakeCore(says, bid=100, providers=[listing(price=(10, 0, 0))])
    gateway = gateway_of(core, tmp_path, most_msat=100)
    async with client_of(gateway) as client:
        responses = await asyncio.gather(*(client.post(URL, json=CHAT) for _ in range(30)))
    statuses = [response.status_code for response in responses]
    # Each sets 10 aside and costs 7: the fourteenth finds too little left.
    assert statuses.count(200) == 13 and statuses.count(402) == 17
    assert gateway.asks.budget.spent == 91 and gateway.asks.budget.held == 0
    assert all(10 <= budget <= 20 for budget in core.budgets)


async def test_where_all_are_free_nobody_is_offered_anything(tmp_path):
    core = FakeCore(bid=100)
    async with client_of(gateway_of(core, tmp_path)) as client:
        assert (await client.post(URL, json=CHAT)).status_code == 200
    assert core.budgets == [0]


@pytest.mark.parametrize("other", [listing("m-2", price=(90, 0, 0)), listing(price=(900, 0, 0))])
async def test_who_would_not_be_asked_does_not_say_what_is_set_aside(tmp_path, other):
    core = FakeCore(bid=100, providers=[listing(price=(10, 0, 0)), other])
    async with client_of(gateway_of(core, tmp_path, most_msat=20)) as client:
        assert (await client.post(URL, json={**CHAT, "model": "m-1"})).status_code == 200
    assert core.budgets == [20]


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
bodies = st.binary(max_size=60) | json.map(orjson.dumps) | json.map(lambda value: orjson.dumps({**CHAT, "x": value}))
bodies |= json.map(lambda value: orjson.dumps({"messages": value})) | json.map(
    lambda value: orjson.dumps({**CHAT, "messages": [{"role": "user", "content": value}]})
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(bodies, st.sampled_from([URL, "/session"]))
async def test_no_body_is_a_fault_of_ours(tmp_path, body, path):
    async with client_of(gateway_of(FakeCore(), tmp_path)) as client:
        response = await client.post(path, content=body)
    assert response.status_code in (200, 400, 401)


async def test_no_answer_is_kept_by_a_cache_or_taken_for_a_page(tmp_path):
    response = await posted(tmp_path, FakeCore())
    assert response.headers["cache-control"] == "no-store" and response.headers["x-content-type-options"] == "nosniff"
    assert TOKEN not in response.text


async def test_the_largest_question_fits_a_body_of_the_default_size_with_every_letter_escaped(tmp_path):
    def escaped(text):
        return "".join(f"\\u{ord(letter):04x}" for letter in text)

    part = '{"type": "text", "text": "%s"}' % escaped("a" * (MAX_EVENT_BYTES // MOST_MESSAGES))  # noqa: UP031 - braces
    schema = '{"type": "object", "description": "%s"}' % escaped("b" * (MAX_SCHEMA - 100))  # noqa: UP031 - braces
    body = (
        f'{{"model": "any", "messages": [{{"role": "user", "content": [{", ".join([part] * MOST_MESSAGES)}]}}],'
        f' "response_format": {{"type": "json_schema", "json_schema": {{"name": "x", "schema": {schema}}}}}}}'
    )
    core = FakeCore(providers=[listing(context=10_000_000)])
    async with client_of(gateway_of(core, tmp_path)) as client:
        said = await client.post("/v1/chat/completions", content=body)
    assert (said.status_code, len(core.asked)) == (200, 1), said.text
    assert GatewaySection().max_body_mb * 1024 * 1024 == GatewaySettings(tmp_path, 0).max_body_bytes
