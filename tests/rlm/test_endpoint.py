"""The OpenAI-shaped root: a real HTTP server on loopback, that misbehaves as such servers do."""

import json
from contextlib import asynccontextmanager

import orjson
import pytest

from pylon.errors import SetupError, UnreachableError
from pylon.rlm.endpoint import MAX_BODY_BYTES, OpenAIRoot, read_key
from pylon.rlm.root import Message, RootError, estimate_tokens
from tests.rlm.completions import completion, served

CHAT = [Message("system", "s"), Message("user", "hello")]


@asynccontextmanager
async def root(url, **options):
    made = OpenAIRoot(url, "some-model", 8_000, 100, first_wait_s=0.01, **options)
    try:
        yield made
    finally:
        await made.close()


async def test_a_reply_and_its_usage_are_read_and_the_key_goes_along():
    answer = completion(model="some-model-2026", usage={"prompt_tokens": 12, "completion_tokens": 3})
    async with served((200, [], answer)) as (url, asked), root(url, key="secret", temperature=0.5) as model:
        reply = await model.reply(CHAT)
        assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("hi", 12, 3)
        assert reply.model == "some-model-2026"
    head, body = asked[0]
    assert head.startswith("POST /v1/chat/completions ") and "Bearer secret" in head
    assert body["messages"][1] == {"role": "user", "content": "hello"}
    assert (body["max_completion_tokens"], body["temperature"]) == (100, 0.5)
    assert "secret" not in repr(vars(model))


@pytest.mark.parametrize("count", [-1, True, 1.0, "many", None, 10**9 + 1, 2**64 - 1, 2**70])
async def test_a_count_that_can_be_none_is_estimated(count):
    answer = completion(usage={"prompt_tokens": 12, "completion_tokens": "?"}).replace(
        b'"?"', json.dumps(count).encode()
    )
    async with served((200, [], answer)) as (url, _), root(url) as model:
        reply = await model.reply(CHAT)
    assert (reply.prompt_tokens, reply.completion_tokens) == (12, estimate_tokens([Message("assistant", "hi")]))


async def test_a_server_of_this_machine_is_asked_without_the_proxy_that_leads_outside(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with served((200, [], completion())) as (url, _), root(url) as model:
        assert (await model.reply(CHAT)).text == "hi"


async def test_busy_and_broken_answers_are_tried_again():
    busy = [(429, ["retry-after: 0"], b""), (500, [], b""), (200, [], b"not json"), (200, [], completion())]
    async with served(*busy) as (url, asked), root(url) as model:
        assert (await model.reply(CHAT)).text == "hi"
        assert len(asked) == 4


@pytest.mark.parametrize("pause", ["\u00b2", "soon", "-1", "1e9", ""])
async def test_a_pause_that_is_no_number_is_no_pause(pause):
    busy = (429, [f"retry-after: {pause}"], b"")
    async with served(busy, (200, [], completion())) as (url, asked), root(url) as model:
        assert (await model.reply(CHAT)).text == "hi"
        assert len(asked) == 2


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
async def test_refusals_are_final_and_named(status):
    async with served((status, [], b"{}")) as (url, asked), root(url) as model:
        with pytest.raises(RootError, match=str(status)):
            await model.reply(CHAT)
        assert len(asked) == 1


async def test_a_refusal_has_the_servers_own_words_and_not_the_key():
    said = "Unsupported parameter: 'temperature'. Your header was Bearer very-secret-7"
    body = orjson.dumps({"error": {"message": said}})
    async with served((400, [], body)) as (url, _), root(url, key="very-secret-7") as model:
        with pytest.raises(RootError, match="answered 400: Unsupported parameter: 'temperature'") as caught:
            await model.reply(CHAT)
    assert "secret" not in str(caught.value)
    async with served((401, [], body)) as (url, _), root(url, key="very-secret-7") as model:
        with pytest.raises(RootError) as caught:
            await model.reply(CHAT)
    assert str(caught.value) == "the root model's endpoint answered 401"


@pytest.mark.parametrize("known", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_that_takes_one_name_of_the_limit_is_asked_with_that_from_then_on(known, status):
    def answer(body):
        limits = {"max_tokens", "max_completion_tokens"} & set(body)
        other = limits - {known}
        refused = orjson.dumps({"error": {"message": f"Unsupported parameter: '{''.join(other)}'"}})
        return (status, [], refused) if other else (200, [], completion())

    async with served(answer) as (url, asked), root(url) as model:
        for _ in range(2):
            assert (await model.reply(CHAT)).text == "hi"
    assert [{name: value for name, value in body.items() if "max" in name} for _, body in asked] == [
        {"max_tokens": 100, "max_completion_tokens": 100}, {known: 100}, {known: 100},
    ]  # fmt: skip


async def test_a_server_that_takes_neither_name_is_asked_twice():
    refused = orjson.dumps({"error": "Unknown field max_tokens, and unknown field max_completion_tokens"})
    async with served((400, [], refused)) as (url, asked), root(url) as model:
        with pytest.raises(RootError, match="Unknown field"):
            await model.reply(CHAT)
    assert len(asked) == 2


async def test_a_text_in_parts_is_put_together():
    parts = [{"type": "text", "text": "FINAL("}, {"type": "image"}, 7, {"type": "text", "text": "42)"}]
    body = orjson.dumps({"choices": [{"message": {"content": parts}}]})
    async with served((200, [], body)) as (url, _), root(url) as model:
        assert (await model.reply(CHAT)).text == "FINAL(42)"


async def test_a_server_that_stays_down_ends_after_a_few_tries():
    async with served((503, [], b"")) as (url, asked), root(url) as model:
        with pytest.raises(RootError, match="503"):
            await model.reply(CHAT)
        assert len(asked) == 5
    async with root("http://127.0.0.1:9/v1") as model:
        with pytest.raises(RootError, match="does not answer"):
            await model.reply(CHAT)


async def test_an_answer_without_end_is_cut_off():
    async with served((200, [], b"x" * (MAX_BODY_BYTES + 1))) as (url, _), root(url) as model:
        with pytest.raises(RootError, match="bytes"):
            await model.reply(CHAT)


@pytest.mark.parametrize(
    "body", [b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": 5}}]}', b'{"choices": [{}]}']
)
async def test_an_answer_of_another_shape_is_an_error_and_no_crash(body):
    async with served((200, [], body)) as (url, _), root(url) as model:
        with pytest.raises(RootError):
            await model.reply(CHAT)


@pytest.mark.parametrize(
    ("status", "means", "hint"),
    [
        (401, SetupError, "root_key_file"),
        (403, SetupError, "root_key_file"),
        (404, SetupError, "root_url"),
        (418, SetupError, ""),
        (503, UnreachableError, ""),
    ],
)
async def test_a_refusal_tells_what_it_means_for_a_run_and_what_to_do(status, means, hint):
    async with served((status, [], b"{}")) as (url, _), root(url) as model:
        with pytest.raises(RootError) as caught:
            await model.reply(CHAT)
    assert caught.value.means is means and hint in caught.value.hint
    assert caught.value.lasting == (status != 503)


async def test_what_is_no_chat_completion_is_asked_for_once_more_only():
    async with served((200, [], b'{"choices": []}')) as (url, asked), root(url) as model:
        with pytest.raises(RootError, match="no chat completion"):
            await model.reply(CHAT)
        assert len(asked) == 2


@pytest.mark.parametrize(("said", "text"), [(rb"a\ud800b", "a\ufffdb"), (rb"\ud83d\ude00", "\U0001f600")])
async def test_half_a_character_is_replaced_and_costs_no_second_try(said, text):
    body = b'{"choices": [{"message": {"content": "%s"}}]}' % said
    async with served((200, [], body)) as (url, asked), root(url) as model:
        assert (await model.reply(CHAT)).text == text
        assert len(asked) == 1


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a": "\\ud800", "b": ' + b"9" * 5_000 + b"}"])
async def test_json_that_only_pythons_own_reader_would_choke_on_is_an_error_and_no_crash(body):
    async with served((200, [], body)) as (url, _), root(url) as model:
        with pytest.raises(RootError):
            await model.reply(CHAT)


async def test_a_seed_goes_along_where_there_is_one():
    async with served((200, [], completion())) as (url, asked):
        for seed in (None, 7):
            async with root(url, seed=seed) as model:
                await model.reply(CHAT)
    assert [body.get("seed") for _, body in asked] == [None, 7] and "seed" not in asked[0][1]


@pytest.mark.parametrize(
    ("said", "finish", "cut_off"),
    [("length", "length", True), ("stop", "stop", False), ("tool_calls", "stop", False), (None, None, False),
     (7, None, False)],
)  # fmt: skip
async def test_a_reply_tells_why_it_ended(said, finish, cut_off):
    body = orjson.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": said}]})
    async with served((200, [], body)) as (url, _), root(url) as model:
        reply = await model.reply(CHAT)
    assert (reply.finish, reply.cut_off) == (finish, cut_off)


async def test_a_model_that_says_nothing_gives_an_empty_turn():
    body = orjson.dumps({"choices": [{"message": {"content": None}}], "usage": {"prompt_tokens": "many"}})
    async with served((200, [], body)) as (url, _), root(url) as model:
        reply = await model.reply(CHAT)
        assert reply.text == "" and reply.prompt_tokens > 0


def test_a_key_is_read_from_its_file(tmp_path):
    (tmp_path / "key").write_text(" abc\n")
    assert read_key(tmp_path / "key") == "abc"
    with pytest.raises(SetupError):
        read_key(tmp_path / "nowhere")
