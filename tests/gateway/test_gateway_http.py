"""The gateway's routes, in this process; a stand-in for the core behind them."""

import asyncio

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pylon.errors import PylonError, UnreachableError
from pylon.gateway import completions
from pylon.gateway.app import GatewaySettings
from pylon.gateway.bodies import MOST_MARKS
from pylon.gateway.chat import MOST_MESSAGES
from pylon.gateway.problems import problem_of_error
from pylon.gateway.upstream import Ended, Said, SilentCoreError
from pylon.jobs.parameters import MAX_SCHEMA
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.sections import GatewaySection
from pylon.swarm.compose import priced_size
from pylon.swarm.job import JobSpec
from tests.gateway.fakes import CHAT, TOKEN, FakeCore, answer, client_of, failure, gateway_of, listing
from tests.waiting import until

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
    assert said["pylon"]["paid_msat"] == 5 and said["pylon"]["provider"].startswith("npub1")
    assert response.headers["x-pylon-paid-msat"] == "5" and response.headers["x-pylon-verified"] == "signature"


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
        (failure("not_sent"), 503, True), (failure("unconfirmed"), 503, True), (failure("cancelled"), 503, True),
        (failure("deadline"), 504, False),
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
    ("row", "again"),
    [
        (failure("no_provider"), "false"), (failure("exhausted"), "false"), (failure("unheard"), "false"),
        (failure("deadline"), "false"), (failure("exhausted", "engine_failed"), "false"),
        (failure("refused", "busy"), "true"), (failure("refused", "paused"), "false"),
        (failure("budget"), None), (failure("malformed"), None), (failure("refused", "unsupported_param"), None),
    ],
)  # fmt: skip
async def test_a_client_that_repeats_by_itself_is_told_whether_that_is_of_use(tmp_path, row, again):
    response = await posted(tmp_path, FakeCore(lambda _: [Ended(row)]))
    assert response.headers.get("x-should-retry") == again


@pytest.mark.parametrize(
    ("error", "waited_s", "again"),
    [
        # A node that starts anew is there within seconds.
        (UnreachableError("no node"), 0.1, None), (UnreachableError("no relay"), 10.0, False),
        (SilentCoreError("it hangs"), 0.1, False), (PylonError("full disk"), 0.1, False),
    ],
)  # fmt: skip
def test_what_was_waited_for_once_is_not_asked_for_again(error, waited_s, again):
    assert problem_of_error(error, waited_s).again is again


SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


@pytest.mark.parametrize("reason", ["refused", "exhausted"])
@pytest.mark.parametrize("form", [{"type": "json_object"}, SCHEMA])
async def test_where_nobody_makes_answers_by_a_schema_the_parameter_is_named(tmp_path, reason, form):
    core = FakeCore(lambda _: [Ended(failure(reason, "unsupported_param"))])
    error = (await posted(tmp_path, core, response_format=form)).json()["error"]
    assert error["param"] == "response_format" and "schema" in error["message"]
    # Of another parameter that is not said.
    assert (await posted(tmp_path, core, top_k=3)).json()["error"]["param"] is None


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
    # nginx keeps the pieces back otherwise.
    assert response.headers["x-accel-buffering"] == "no"
    *said, done = chunks(response)
    assert done == "[DONE]" and len({chunk["id"] for chunk in said}) == 1
    assert [c["choices"][0]["delta"].get("content") for c in said[:-2]] == ["", "he", "llo", "!"]
    assert said[-2]["choices"][0]["finish_reason"] == "stop" and said[-2]["pylon"]["attempts"] == 1
    assert said[-1]["choices"] == [] and said[-1]["usage"]["total_tokens"] == 5
    without = chunks(await posted(tmp_path, core, stream=True))
    assert "usage" not in without[-2] and len(without) == len(said)


async def test_the_chunks_of_a_stream_are_of_one_model_and_the_last_says_whose_answer_it_is(tmp_path):
    core = FakeCore(lambda _: [Said("he"), Ended(answer("hello"))])
    *said, _ = chunks(await posted(tmp_path, core, stream=True))
    assert {chunk["model"] for chunk in said} == {"any"} and said[-1]["pylon"]["model"] == "m-1"
    *said, _ = chunks(await posted(tmp_path, core, stream=True, model="m-1"))
    assert {chunk["model"] for chunk in said} == {"m-1"}


async def test_a_stream_that_pauses_shows_that_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(completions, "BEAT_S", 0.05)
    go, asked = asyncio.Event(), []

    def says(_):
        asked.append(asyncio.get_running_loop().call_later(0.5, go.set))
        return [Said("he"), go, Ended(answer("hello"))]

    response = await posted(tmp_path, FakeCore(says), stream=True)
    lines = [line for line in response.text.split("\n\n") if line]
    beats = [line for line in lines if line.startswith(":")]
    assert beats and lines[-1] == "data: [DONE]"
    texts = [orjson.loads(line[6:])["choices"][0]["delta"].get("content") for line in lines[:-1] if line[0] != ":"]
    assert "".join(filter(None, texts)) == "hello"


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


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/", "/v1/responses", "/v1/completions", "/v1/embeddings", f"{URL}/", "/v1/models/"],
)
async def test_a_client_of_another_interface_is_told_which_one_there_is(tmp_path, path):
    async with client_of(gateway_of(FakeCore(), tmp_path)) as client:
        response = await client.request("GET" if path == "/v1/models/" else "POST", path, json={})
        assert response.status_code == 404 and "POST /v1/chat/completions" in response.json()["error"]["message"]
        assert "chat" not in (await client.get("/nothing")).text


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
        got = await client.get(URL)
        assert got.headers["allow"] == "POST" and "only accepts POST" in got.json()["error"]["message"]
        assert set((await client.delete("/v1/models")).headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_more_requests_than_are_taken_are_told_to_come_back(tmp_path):
    go = asyncio.Event()
    core = FakeCore(lambda _: [go, Ended(answer())])
    async with client_of(gateway_of(core, tmp_path, max_requests=2)) as client:
        first = [asyncio.create_task(client.post(URL, json=CHAT)) for _ in range(2)]
        await until(lambda: core.under_way >= 2)
        third = await client.post(URL, json=CHAT)
        assert third.status_code == 429 and third.headers["retry-after"] == "1"
        assert third.headers["x-should-retry"] == "true"
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


async def test_what_costs_nothing_waits_for_no_budget(tmp_path):
    go = asyncio.Event()
    core = FakeCore(lambda _: [go, Ended(answer(charged=9))], bid=10, providers=[listing(price=(10, 0, 0))])
    gateway = gateway_of(core, tmp_path, most_msat=15)
    async with client_of(gateway) as client:
        paid = [asyncio.create_task(client.post(URL, json=CHAT)) for _ in range(2)]
        await until(lambda: gateway.asks.tally.in_flight >= 2 and core.under_way >= 1)
        core.says = lambda _: [Ended(answer())]
        free = await asyncio.wait_for(client.post(URL, json={**CHAT, "pylon": {"bid_msat": 0}}), 20)
        assert free.status_code == 200 and not any(task.done() for task in paid)
        go.set()
        assert [(await task).status_code for task in paid] == [200, 402]


async def test_a_request_waits_no_longer_for_the_budget_than_it_may_take(tmp_path):
    go = asyncio.Event()
    core = FakeCore(lambda _: [go, Ended(answer(charged=1))], bid=10, providers=[listing(price=(10, 0, 0))])
    gateway = gateway_of(core, tmp_path, most_msat=15)
    async with client_of(gateway) as client:
        first = asyncio.create_task(client.post(URL, json=CHAT))
        await until(lambda: core.under_way >= 1)
        # One that stands in line behind another one, too.
        hasty = [client.post(URL, json={**CHAT, "pylon": {"timeout_s": 0.2}}) for _ in range(2)]
        refused = await asyncio.wait_for(asyncio.gather(*hasty), 20)
        assert {one.status_code for one in refused} == {402}
        assert {one.json()["error"]["code"] for one in refused} == {"budget"}
        patient = asyncio.create_task(client.post(URL, json={**CHAT, "pylon": {"timeout_s": 60}}))
        await until(lambda: gateway.asks.tally.in_flight >= 2)
        await asyncio.sleep(0.3)
        go.set()
        assert ((await first).status_code, (await patient).status_code) == (200, 200)
    assert "timeout" not in core.asked[0]
    # What it waited is taken off.
    assert len(core.asked) == 2 and 0 < core.asked[1]["timeout"] < 59.9
    assert gateway.asks.budget.held == 0


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


async def test_a_chat_is_priced_by_the_text_that_goes_to_its_provider(tmp_path):
    # In the JSON of the request each of these characters takes two bytes.
    said = [{"role": role, "content": '"' * 1_000} for role in ("user", "assistant", "user")]
    price = Price(in_msat_per_1k=Msat(1_000))
    core = FakeCore(bid=1_000_000, providers=[listing(price=(0, 1_000, 0))])
    spec = JobSpec(messages=tuple((message["role"], message["content"]) for message in said), max_tokens=8)
    least = int(price.quote(*priced_size(spec)))
    async with client_of(gateway_of(core, tmp_path, most_msat=least)) as client:
        assert (await client.post(URL, json={**CHAT, "messages": said, "max_tokens": 8})).status_code == 200
        assert core.budgets == [least]
    async with client_of(gateway_of(core, tmp_path, most_msat=least - 1)) as client:
        refused = await client.post(URL, json={**CHAT, "messages": said, "max_tokens": 8})
    assert refused.status_code == 402, "the gateway says itself that its budget does not pay for it"


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
