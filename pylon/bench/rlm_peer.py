"""The peer of `pylon bench rlm`: the RLM paper's own engine (`rlms`) on an endpoint that stands for one machine.

The endpoint answers one sub-call at a time and sleeps for as long as one takes. It answers the root model's turns
at once, from a script. `rlms` is a development dependency and is imported in this process only.
"""

import asyncio
import importlib.metadata
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

from pylon.bench.process import Calls, Settings, serve
from pylon.errors import SetupError

ANSWER = "stand-in answer"


class Endpoint(ThreadingHTTPServer):
    """`POST /v1/chat/completions`, not streamed. `script` is the root's reply; `answered` counts sub-calls."""

    daemon_threads = True
    # The peer sends sixteen at once.
    request_queue_size = 64

    def __init__(self, each_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.each_s = each_s
        self.script = ""
        self.answered = 0
        self._one = threading.Lock()

    def answer(self, messages: list[dict[str, str]]) -> str:
        """The reply to a chat: the root's has a system message, a sub-call's has none."""
        if any(message["role"] == "system" for message in messages):
            return self.script
        with self._one:
            time.sleep(self.each_s)
            self.answered += 1
        return ANSWER


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {"role": "assistant", "content": self.server.answer(asked["messages"])}
        body = orjson.dumps(
            {
                "id": "1", "object": "chat.completion", "created": 0, "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )  # fmt: skip
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Logs nothing."""


@asynccontextmanager
async def peer(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """Opens the peer. Settings: `each_s` is seconds of a sub-call. Raises `SetupError` without `rlms`."""
    try:
        from rlm import RLM
    except ImportError:
        raise SetupError("the peer is not installed", hint="Run ./scripts/setup --dev in a checkout.") from None
    endpoint = Endpoint(settings["each_s"])
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{endpoint.server_address[1]}/v1"

    async def run(script: str) -> dict[str, object]:
        endpoint.script, endpoint.answered = script, 0
        loop = RLM(backend_kwargs={"model_name": "stand-in", "base_url": url, "api_key": "none"}, max_iterations=2)
        started = time.perf_counter()
        made = await asyncio.to_thread(loop.completion, "a context of no importance")
        wall_s = time.perf_counter() - started
        return {"wall_s": wall_s, "answer": made.response, "answered": endpoint.answered}

    try:
        yield {"version": importlib.metadata.version("rlms")}, {"run": run}
    finally:
        endpoint.shutdown()


if __name__ == "__main__":
    serve(peer)
