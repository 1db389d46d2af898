"""The OpenAI engine: any server of `/v1/chat/completions`, so that a node can offer a cluster or another program.

Spoken with: llama-server, mlx_lm.server, vLLM, Ollama, LM Studio and exo all stream chat completions as server-sent
events. What the server does with prompts, caches and memory is its own affair; ours is how many are in flight, what
is tried again, and what an answer is reported as.
"""

import asyncio
import json
import random
import stat
from pathlib import Path
from typing import Literal

import httpx

from pylon.clock import Clock, SystemClock
from pylon.errors import EngineError, EngineFailedError, ModelError, ParameterError, PromptError
from pylon.inference.engine import (
    EngineSpec,
    Event,
    Failed,
    Finished,
    Generation,
    GenerationRequest,
    ModelInfo,
    Progress,
    TokenCount,
)
from pylon.inference.openai.wire import Reply, TryAgainError, body_of, chunks, complete, count, refusal, take

TRIES = 4
BACKOFF_S, BACKOFF_MOST_S = 0.25, 8.0
CONNECT_S = 10.0
# Seconds without a token after which the server is taken to have lost the request.
SILENCE_S = 300.0
# An answer that grows past this is not what was asked for. Up to here it fits a frame, also when it is all control
# characters, which JSON writes as six each.
MOST_CHARS = 2 * 1024 * 1024
_STEP_S = 0.05
# Bytes of a token in prose, about: for servers that do not report the tokens of a prompt.
_BYTES_PER_TOKEN = 4


class OpenAIEngine:
    """`options`: `base_url` (ending in `/v1`), `key_file`, `context` in tokens; `transport` is httpx's, for tests."""

    def __init__(
        self, spec: EngineSpec, clock: Clock | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._spec = spec
        self._clock = clock or SystemClock()
        self._transport = transport
        self._url = str(spec.options.get("base_url", "")).rstrip("/")
        context = spec.options.get("context", 0)
        if not self._url.startswith(("http://", "https://")) or not isinstance(context, int):
            raise ModelError(
                "the openai engine needs a base_url that starts with http:// or https://",
                hint="Set `openai_url` in [inference], such as http://127.0.0.1:8080/v1.",
            )
        self._context = context
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._events: list[Event] = []
        self._tokens = TokenCount()

    def load(self) -> ModelInfo:
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(self._spec.slots)
        self._client = httpx.AsyncClient(
            base_url=self._url + "/",
            headers=_authorization(self._spec.options.get("key_file")),
            timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=self._spec.slots),
            transport=self._transport,
            trust_env=False,
        )
        self._loop.run_until_complete(self._greet())
        # The server does not tell its weights: an empty hash promises nothing.
        return ModelInfo(self._spec.model, "", "unknown", self._context, "openai")

    def add(self, request: GenerationRequest) -> None:
        self._tasks[request.id] = self._loop.create_task(self._answer(request))

    def cancel(self, request_id: str) -> None:
        task = self._tasks.pop(request_id, None)
        if task is not None:
            task.cancel()
            # The closed connection tells the server, which then frees the slot.
            self._loop.run_until_complete(asyncio.wait([task]))
            self._events = [event for event in self._events if event.id != request_id]

    @property
    def busy(self) -> bool:
        return bool(self._tasks or self._events)

    @property
    def tokens(self) -> TokenCount:
        return self._tokens

    def step(self) -> list[Event]:
        if self._tasks:
            waiting = asyncio.wait(self._tasks.values(), timeout=_STEP_S, return_when=asyncio.FIRST_COMPLETED)
            self._loop.run_until_complete(waiting)
        self._tasks = {key: task for key, task in self._tasks.items() if not task.done()}
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        for request_id in list(self._tasks):
            self.cancel(request_id)
        self._loop.run_until_complete(self._client.aclose())
        # A stream that was left before its end is closed by the loop, which runs no more after this.
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _greet(self) -> None:
        """Checks that the server answers. Raises EngineFailedError if not, and ModelError if it refuses the key."""
        try:
            answer = await self._client.get("models", timeout=CONNECT_S)
        except httpx.HTTPError as error:
            raise EngineFailedError(
                f"the server at {self._url} does not answer ({type(error).__name__})",
                hint="Start it, or set `openai_url` in [inference] to where it is.",
            ) from None
        if answer.status_code in (401, 403):
            what = "the key" if "Authorization" in self._client.headers else "whoever has no key"
            raise ModelError(
                f"the server at {self._url} refuses {what}",
                hint="Put its key into a file of yours alone, and name that in `openai_key_file` of [inference].",
            )

    async def _answer(self, request: GenerationRequest) -> None:
        try:
            async with self._slots:
                generation = await self._with_retries(request)
        except EngineError as error:
            self._events.append(Failed(request.id, _kind(error), str(error), error.hint))
        except Exception as error:  # whatever a server sends must not take the other requests down
            self._events.append(Failed(request.id, "engine", f"the server's answer: {type(error).__name__}"))
        else:
            self._tokens = TokenCount(
                self._tokens.prompt + generation.prompt_tokens,
                self._tokens.completion + generation.completion_tokens,
            )
            self._events.append(Finished(request.id, generation))

    async def _with_retries(self, request: GenerationRequest) -> Generation:
        began = self._clock.monotonic()
        for attempt in range(1, TRIES + 1):
            try:
                reply = await self._ask(request)
            except (TryAgainError, httpx.TransportError) as error:
                if attempt == TRIES:
                    reason = str(error) or type(error).__name__
                    raise EngineFailedError(f"the server failed {TRIES} times, last: {reason}") from None
                await asyncio.sleep(_backoff(attempt, getattr(error, "after_s", None)))
            else:
                return self._generation(request, reply, self._clock.monotonic() - began)
        raise AssertionError("unreachable")

    async def _ask(self, request: GenerationRequest) -> Reply:
        reply = Reply()
        async with self._client.stream("POST", "chat/completions", json=body_of(request)) as response:
            if response.status_code != 200:
                await response.aread()
                raise refusal(response, request)
            async for chunk in chunks(response):
                grown = take(reply, chunk)
                if len(reply.text) > MOST_CHARS:
                    raise EngineFailedError("the server's answer does not end")
                if grown:
                    # Some servers count as they go; others tell the count only at the end.
                    counts = (reply.chunks, count(reply.usage, "prompt_tokens", 0))
                    self._events.append(Progress(request.id, reply.text, *counts))
        complete(reply)
        if reply.finish is None:
            raise TryAgainError("the answer broke off")
        return reply

    def _generation(self, request: GenerationRequest, reply: Reply, run_s: float) -> Generation:
        if request.sampling.schema is not None and reply.finish == "stop":
            try:
                json.loads(reply.text)
            except ValueError:
                raise ParameterError("the server behind this engine does not follow JSON schemas") from None
        size = sum(len(message.content.encode()) for message in request.messages)
        return Generation(
            text=reply.text,
            finish=reply.finish or "stop",
            prompt_tokens=count(reply.usage, "prompt_tokens", -(-size // _BYTES_PER_TOKEN)),
            completion_tokens=count(reply.usage, "completion_tokens", reply.chunks),
            run_ms=round(run_s * 1000),
        )


def _authorization(key_file: object) -> dict[str, str]:
    """Reads the API key. Raises ModelError if it cannot be read, or if others than its owner can read it."""
    if not key_file:
        return {}
    path = Path(str(key_file)).expanduser()
    try:
        mode, key = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"the key file {path} cannot be read ({type(error).__name__})",
            hint="Name one that this user may read in `openai_key_file` of [inference]; none if none is needed.",
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ModelError(f"the key file {path} can be read by others", hint=f"Run: chmod 600 {path}")
    return {"Authorization": f"Bearer {key}"}


def _backoff(attempt: int, after_s: float | None) -> float:
    if after_s is not None and after_s >= 0:
        return min(after_s, BACKOFF_MOST_S)
    # With jitter, so that requests that failed together are not tried again together.
    return min(BACKOFF_S * 2.0**attempt, BACKOFF_MOST_S) * random.uniform(0.5, 1.0)  # noqa: S311


def _kind(error: EngineError) -> Literal["prompt", "parameter", "engine"]:
    if isinstance(error, PromptError):
        return "prompt"
    return "parameter" if isinstance(error, ParameterError) else "engine"
