"""The OpenAI engine against a server on loopback that does what each test says, and against llama.cpp's own."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pylon.errors import EngineFailedError, ModelError
from pylon.frames import encode
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec, Event, Failed, Finished, Progress
from pylon.inference.openai import engine as openai
from pylon.inference.openai.engine import OpenAIEngine


def text(content: str) -> dict[str, object]:
    return {"choices": [{"delta": {"content": content}, "finish_reason": None}]}


def end(finish: str = "stop", usage: bool = True) -> list[dict[str, object]]:
    last: dict[str, object] = {"choices": [{"delta": {}, "finish_reason": finish}]}
    return [last, {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 22}}] if usage else [last]


class Peer(ThreadingHTTPServer):
    """`replies` answers the requests in order: a status, or the chunks of a stream; the last one stays."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[object] = []
        self.asked: list[dict[str, object]] = []
        self.keys: list[str | None] = []
        self.models_status = 200
        self.gate = threading.Event()
        self.gate.set()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Peer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        self.send_response(self.server.models_status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        peer = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with peer.lock:
            peer.asked.append(body)
            peer.keys.append(self.headers["Authorization"])
            reply = peer.replies.pop(0) if len(peer.replies) > 1 else peer.replies[0]
            peer.at_once += 1
            peer.most_at_once = max(peer.most_at_once, peer.at_once)
        peer.gate.wait(10)
        with peer.lock:
            peer.at_once -= 1
        self.send_response(reply if isinstance(reply, int) else 200)
        self.send_header("Connection", "close")
        self.end_headers()
        if isinstance(reply, list):
            # An engine that has heard enough hangs up.
            with suppress(ConnectionError):
                for chunk in reply:
                    self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                self.wfile.write(b"data: [DONE]\n\n")


@pytest.fixture
def peer() -> Iterator[Peer]:
    server = Peer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def engine(peer: Peer, monkeypatch) -> Iterator[Callable[..., OpenAIEngine]]:
    monkeypatch.setattr(openai, "BACKOFF_S", 0.001)
    made = []

    def make(slots: int = 4, **options: object) -> OpenAIEngine:
        engine = OpenAIEngine(EngineSpec("openai", "m", slots=slots, options={"base_url": peer.url, **options}))
        engine.load()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


def finish(engine: OpenAIEngine) -> list[Event]:
    events: list[Event] = []
    while engine.busy:
        events += engine.step()
    return events


def only(engine: OpenAIEngine) -> Event:
    return finish(engine)[-1]


def test_a_server_that_counts_along_says_how_long_the_prompt_was_before_the_end(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("Good ") | {"usage": {"prompt_tokens": 11}}, *end()], [text("Good "), *end()]]
    openai_engine = engine()
    for known in (11, 0):
        openai_engine.add(ask("hello"))
        [step] = [event for event in finish(openai_engine) if isinstance(event, Progress)]
        assert step.prompt_tokens == known


def test_an_answer_grows_by_chunks_and_is_counted_by_the_server(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("Good "), text("day"), *end("length")]]
    openai_engine = engine()
    openai_engine.add(ask("hello"))
    *steps, last = finish(openai_engine)
    assert [step.text for step in steps if isinstance(step, Progress)] == ["Good ", "Good day"]
    assert isinstance(last, Finished)
    answer = last.generation
    assert (answer.text, answer.finish, answer.prompt_tokens, answer.completion_tokens) == (
        "Good day",
        "length",
        11,
        22,
    )
    assert (openai_engine.tokens.prompt, openai_engine.tokens.completion) == (11, 22)


def test_what_is_asked_for_is_passed_on_and_nothing_else(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("{}"), *end()]]
    openai_engine = engine()
    wished = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 3, "stop": ("x",), "schema": '{"type":"object"}'}
    for key, sampling in (("1", {}), ("2", wished)):
        openai_engine.add(ask("hello", key=key, model="m", max_tokens=5, **sampling))
        finish(openai_engine)
    plain, full = peer.asked
    assert set(plain) == {"model", "messages", "max_tokens", "temperature", "stream", "stream_options"}
    assert {name: full[name] for name in ("top_p", "top_k", "seed", "stop")} == {
        "top_p": 0.9,
        "top_k": 7,
        "seed": 3,
        "stop": ["x"],
    }
    assert full["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_a_server_is_asked_for_the_likeliest_tokens_by_temperature_alone(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("x"), *end()]]
    openai_engine = engine()
    openai_engine.add(ask("hello", temperature=0.8, top_p=0.0))
    finish(openai_engine)
    assert peer.asked[0]["temperature"] == 0
    assert "top_p" not in peer.asked[0]


@pytest.mark.parametrize("nothing", [None, "", {}])
def test_an_error_with_nothing_in_it_is_none(engine, peer: Peer, ask, nothing: object) -> None:
    peer.replies = [[chunk | {"error": nothing} for chunk in (text("there"), *end())]]
    openai_engine = engine()
    openai_engine.add(ask("hello"))
    assert only(openai_engine).generation.text == "there"
    assert len(peer.asked) == 1


def test_without_usage_tokens_are_chunks_and_quarter_bytes(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("a"), text("b"), *end(usage=False)]]
    openai_engine = engine()
    openai_engine.add(ask("ninebytes"))
    answer = only(openai_engine).generation
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)


def test_a_character_that_the_server_cut_in_two_is_whole_again(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("so \ud83d"), text("\ude00"), text(" and \ude00\ud83d"), *end()]]
    openai_engine = engine()
    openai_engine.add(ask("hello"))
    *steps, last = finish(openai_engine)
    assert [step.text for step in steps] == ["so ", "so \U0001f600", "so \U0001f600 and \ufffd"]
    assert last.generation.text == "so \U0001f600 and \ufffd\ufffd"


@pytest.mark.parametrize("count", [-1, True, 1.0, "7", None, 10**9 + 1, 2**70])
def test_a_count_that_can_be_none_is_not_taken_over(engine, peer: Peer, ask, count: object) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": count}}
    peer.replies = [[text("a"), text("b"), *end(usage=False), usage]]
    openai_engine = engine()
    openai_engine.add(ask("ninebytes"))
    answer = only(openai_engine).generation
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)


def test_the_longest_answer_that_is_taken_fits_a_frame(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("\x01" * openai.MOST_CHARS), *end()], [text("x" * openai.MOST_CHARS), text("x"), *end()]]
    openai_engine = engine()
    openai_engine.add(ask("hello"))
    for event in finish(openai_engine):
        encode(event)
    openai_engine.add(ask("hello"))
    *_, failed = finish(openai_engine)
    assert isinstance(failed, Failed) and "does not end" in failed.message


@pytest.mark.parametrize("fault", [429, 500, 503, [text("half")], [text("a"), {"error": {"message": "gone"}}]])
def test_what_may_pass_is_tried_again(engine, peer: Peer, ask, fault: object) -> None:
    peer.replies = [fault, fault, [text("there"), *end()]]
    openai_engine = engine()
    openai_engine.add(ask("hello"))
    assert only(openai_engine).generation.text == "there"
    assert len(peer.asked) == 3


def test_what_keeps_failing_fails_after_a_few_tries(engine, peer: Peer, ask) -> None:
    peer.replies = [500]
    openai_engine = engine()
    openai_engine.add(ask("hello"))
    failed = only(openai_engine)
    assert isinstance(failed, Failed) and failed.error == "engine"
    assert len(peer.asked) == openai.TRIES


@pytest.mark.parametrize(
    ("status", "sampling", "error"), [(400, {}, "prompt"), (400, {"schema": "{}"}, "parameter"), (404, {}, "engine")]
)
def test_a_refusal_is_not_tried_again(engine, peer: Peer, ask, status: int, sampling, error: str) -> None:
    peer.replies = [status]
    openai_engine = engine()
    openai_engine.add(ask("hello", **sampling))
    failed = only(openai_engine)
    assert isinstance(failed, Failed) and failed.error == error
    assert len(peer.asked) == 1


def test_an_answer_that_is_no_json_although_a_schema_was_given_is_no_answer(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("Sure! Here is"), *end()]]
    openai_engine = engine()
    openai_engine.add(ask("hello", schema="{}"))
    failed = only(openai_engine)
    assert isinstance(failed, Failed) and failed.error == "parameter"


@pytest.mark.parametrize("schema", ["no JSON", '{"pattern": "(a{999}){999}"}', '{"a":' * 9_000 + "1" + "}" * 9_000])
def test_a_schema_that_would_hold_the_server_up_never_gets_there(engine, peer: Peer, ask, schema: str) -> None:
    openai_engine = engine()
    openai_engine.add(ask("hello", schema=schema))
    failed = only(openai_engine)
    assert isinstance(failed, Failed) and failed.error == "parameter"
    assert not peer.asked


def test_no_more_are_in_flight_than_there_are_slots(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("a"), *end()]]
    peer.gate.clear()
    openai_engine = engine(slots=3)
    for number in range(9):
        openai_engine.add(ask("hello", key=str(number)))
    while len(peer.asked) < 3:
        openai_engine.step()
    openai_engine.step()
    peer.gate.set()
    assert sum(isinstance(event, Finished) for event in finish(openai_engine)) == 9
    assert peer.most_at_once == 3


def test_a_cancelled_request_frees_its_slot_at_once(engine, peer: Peer, ask) -> None:
    peer.replies = [[text("a"), *end()]]
    peer.gate.clear()
    openai_engine = engine(slots=1)
    openai_engine.add(ask("hello", key="1"))
    while not peer.asked:
        openai_engine.step()
    openai_engine.cancel("1")
    assert not openai_engine.busy
    openai_engine.add(ask("hello", key="2"))
    while len(peer.asked) < 2:
        openai_engine.step()
    peer.gate.set()
    assert [event.id for event in finish(openai_engine) if isinstance(event, Finished)] == ["2"]


def test_the_key_comes_from_a_file_that_only_its_owner_reads(engine, peer: Peer, ask, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-test\n")
    key_file.chmod(0o644)
    with pytest.raises(ModelError, match="read by others"):
        engine(key_file=str(key_file))
    with pytest.raises(ModelError, match=r"cannot be read \(FileNotFoundError\)") as caught:
        engine(key_file=str(tmp_path / "none"))
    assert "openai_key_file" in caught.value.hint
    key_file.chmod(0o600)
    peer.models_status = 403
    with pytest.raises(ModelError, match="refuses the key"):
        engine(key_file=str(key_file))
    peer.models_status = 200
    peer.replies = [[text("a"), *end()]]
    openai_engine = engine(key_file=str(key_file))
    openai_engine.add(ask("hello"))
    finish(openai_engine)
    assert set(peer.keys) == {"Bearer sk-test"}


def test_a_refused_key_is_final_and_a_server_that_is_not_there_is_not(engine, peer: Peer) -> None:
    peer.models_status = 401
    with pytest.raises(ModelError, match="refuses whoever has no key") as caught:
        engine()
    assert "openai_key_file" in caught.value.hint
    with pytest.raises(EngineFailedError, match="does not answer") as unheard:
        engine(base_url="http://127.0.0.1:1/v1")
    assert "openai_url" in unheard.value.hint


async def test_it_runs_in_the_inference_child_like_any_engine(serve, peer: Peer, ask) -> None:
    peer.replies = [[text("from afar"), *end()]]
    spec = EngineSpec("openai", "m", slots=2, options={"base_url": peer.url, "context": 500})
    service = await serve(spec, limits=ChildLimits(backoff_s=0.01))
    answers = await asyncio.gather(*(service.generate(ask("hello", model="m")) for _ in range(4)))
    assert {answer.text for answer in answers} == {"from afar"}
    model = service.status().model
    assert model is not None
    assert (model.id, model.engine, model.sha256, model.context) == ("m", "openai", "", 500)
