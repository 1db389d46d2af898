"""The OpenAI engine: any server of `/v1/chat/completions`, so that one node fronts a cluster or another program.

Spoken with: llama-server, mlx_lm.server, vLLM, Ollama, LM Studio and exo all stream chat completions as server-sent
events. What the server does with prompts, caches and memory is its own affair; ours is how many are in flight, what
is tried again, and what an answer is reported as.
"""

import asyncio
import contextlib
import json
import random
import stat
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from pylon.clock import Clock, SystemClock
from pylon.errors import EngineError, EngineFailedError, ModelError, ParameterError, PromptError
from pylon.inference import schema_bounds
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

TRIES = 4
BACKOFF_S, BACKOFF_MOST_S = 0.25, 8.0
CONNECT_S = 10.0
# A server that says nothing for so long, between two tokens or before the first, has lost the request.
SILENCE_S = 300.0
# An answer that grows past this is not what was asked for.
MOST_CHARS = 4 * 1024 * 1024
_STEP_S = 0.05
# Prose has about four bytes a token: for servers that do not say how many tokens a prompt had.
_BYTES_PER_TOKEN = 4
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_TOO_MUCH = frozenset({400, 413, 422})


@dataclass(slots=True)
class _Reply:
    """An answer as it comes; token counts are the server's own where it gives them."""

    text: str = ""
    finish: Literal["stop", "length"] | None = None
    chunks: int = 0
    usage: dict[str, Any] = field(default_factory=dict)


class _TryAgainError(Exception):
    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


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
            raise ModelError("The openai engine needs a base_url that starts with http:// or https://.")
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
        # What the server's weights are, it does not say: an empty hash promises nothing.
        return ModelInfo(self._spec.model, "", "unknown", self._context, "openai")

    def add(self, request: GenerationRequest) -> None:
        self._tasks[request.id] = self._loop.create_task(self._answer(request))

    def cancel(self, request_id: str) -> None:
        task = self._tasks.pop(request_id, None)
        if task is not None:
            task.cancel()
            # Closing the connection tells the server, and its slot is free at once.
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
        self._loop.close()

    async def _greet(self) -> None:
        """Raises EngineFailedError when nobody listens; a server may come later, so it is tried again."""
        try:
            answer = await self._client.get("models", timeout=CONNECT_S)
        except httpx.HTTPError as error:
            raise EngineFailedError(f"The server at {self._url} does not answer ({type(error).__name__}).") from None
        if answer.status_code in (401, 403):
            raise ModelError(f"The server at {self._url} refuses the key.", hint="Put its key into the key file.")

    async def _answer(self, request: GenerationRequest) -> None:
        try:
            async with self._slots:
                generation = await self._with_retries(request)
        except EngineError as error:
            self._events.append(Failed(request.id, _kind(error), str(error), error.hint))
        except Exception as error:  # whatever a server sends must not take the other requests down
            self._events.append(Failed(request.id, "engine", f"The server's answer: {type(error).__name__}."))
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
            except (_TryAgainError, httpx.TransportError) as error:
                if attempt == TRIES:
                    reason = str(error) or type(error).__name__
                    raise EngineFailedError(f"The server failed {TRIES} times, last: {reason}.") from None
                await asyncio.sleep(_backoff(attempt, getattr(error, "after_s", None)))
            else:
                return self._generation(request, reply, self._clock.monotonic() - began)
        raise AssertionError("unreachable")

    async def _ask(self, request: GenerationRequest) -> _Reply:
        reply = _Reply()
        async with self._client.stream("POST", "chat/completions", json=_body(request)) as response:
            if response.status_code != 200:
                await response.aread()
                raise _refusal(response, request)
            async for chunk in _chunks(response):
                if _take(reply, chunk):
                    self._events.append(Progress(request.id, reply.text, reply.chunks))
                if len(reply.text) > MOST_CHARS:
                    raise EngineFailedError("The server's answer does not end.")
        if reply.finish is None:
            raise _TryAgainError("the answer broke off")
        return reply

    def _generation(self, request: GenerationRequest, reply: _Reply, run_s: float) -> Generation:
        if request.sampling.schema is not None and reply.finish == "stop":
            try:
                json.loads(reply.text)
            except ValueError:
                raise ParameterError("The server behind this engine does not follow JSON schemas.") from None
        size = sum(len(message.content.encode()) for message in request.messages)
        return Generation(
            text=reply.text,
            finish=reply.finish or "stop",
            prompt_tokens=_count(reply.usage, "prompt_tokens", -(-size // _BYTES_PER_TOKEN)),
            completion_tokens=_count(reply.usage, "completion_tokens", reply.chunks),
            run_ms=round(run_s * 1000),
        )


def _authorization(key_file: object) -> dict[str, str]:
    """Raises ModelError when the key cannot be read, or can be by others than its owner."""
    if not key_file:
        return {}
    path = Path(str(key_file)).expanduser()
    try:
        mode, key = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"The key file {path} cannot be read ({type(error).__name__}).") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ModelError(f"The key file {path} can be read by others.", hint=f"Run: chmod 600 {path}")
    return {"Authorization": f"Bearer {key}"}


def _body(request: GenerationRequest) -> dict[str, Any]:
    """The request as OpenAI's API reference has it; what is not set is not sent, for not every server knows all."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.schema is not None:
        # The server compiles it as well, and others wait as long there.
        schema_bounds.check(sampling.schema)
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": json.loads(sampling.schema), "strict": True},
        }
    return body


async def _chunks(response: httpx.Response) -> AsyncIterator[Mapping[str, Any]]:
    """The JSON objects of a stream of server-sent events."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        with contextlib.suppress(ValueError):
            chunk = json.loads(data)
            if isinstance(chunk, dict):
                yield chunk


def _take(reply: _Reply, chunk: Mapping[str, Any]) -> bool:
    """Adds a chunk to the answer; whether text came with it. Raises _TryAgainError for an error told mid-stream."""
    if "error" in chunk:
        raise _TryAgainError("an error in mid-answer")
    if isinstance(usage := chunk.get("usage"), dict):
        reply.usage = usage
    choices = chunk.get("choices") or [{}]
    finish = choices[0].get("finish_reason")
    if finish is not None:
        reply.finish = "length" if finish == "length" else "stop"
    content = (choices[0].get("delta") or {}).get("content")
    if not isinstance(content, str) or not content:
        return False
    reply.text += content
    reply.chunks += 1
    return True


def _refusal(response: httpx.Response, request: GenerationRequest) -> Exception:
    """What a status other than 200 means. The server's own words are not passed on: they may quote the prompt."""
    status = response.status_code
    if status in _TRY_AGAIN:
        return _TryAgainError(f"status {status}", _seconds(response.headers.get("retry-after")))
    if status in _TOO_MUCH:
        if request.sampling.schema is not None:
            return ParameterError(f"The server refuses the prompt or its JSON schema (status {status}).")
        return PromptError(
            f"The server refuses the prompt (status {status}).", hint="A shorter one, or fewer tokens, may fit."
        )
    return EngineFailedError(f"The server refuses to answer (status {status}).")


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:  # a date, which nobody sends for seconds
        return None


def _backoff(attempt: int, after_s: float | None) -> float:
    if after_s is not None and after_s >= 0:
        return min(after_s, BACKOFF_MOST_S)
    # Spread, so that requests that failed together do not come back together.
    return min(BACKOFF_S * 2.0**attempt, BACKOFF_MOST_S) * random.uniform(0.5, 1.0)  # noqa: S311


def _count(usage: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = usage.get(name)
    return value if type(value) is int and value >= 0 else otherwise


def _kind(error: EngineError) -> Literal["prompt", "parameter", "engine"]:
    if isinstance(error, PromptError):
        return "prompt"
    return "parameter" if isinstance(error, ParameterError) else "engine"
