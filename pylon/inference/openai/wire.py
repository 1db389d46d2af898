"""Chat completions on the wire: the body of a request, the chunks of an answer, and errors for refusals.

Source: OpenAI's API reference, "Create chat completion" with `stream`.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from pylon.errors import EngineFailedError, ParameterError, PromptError
from pylon.inference.engine import GenerationRequest
from pylon.inference.schema import bounds as schema_bounds
from pylon.money.price import MAX_TOKENS
from pylon.text import whole_characters

_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_TOO_MUCH = frozenset({400, 413, 422})


@dataclass(slots=True)
class Reply:
    """An answer as it comes. `chunks` counts those with text, `usage` are the server's own token counts.

    `half` is a UTF-16 surrogate whose other half has not come: some servers cut a character in two.
    """

    text: str = ""
    half: str = ""
    finish: Literal["stop", "length"] | None = None
    chunks: int = 0
    usage: dict[str, Any] = field(default_factory=dict)


class TryAgainError(Exception):
    """The request may succeed later: after so many seconds, if the server told."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


def body_of(request: GenerationRequest) -> dict[str, Any]:
    """The request as OpenAI's API reference has it; what is not set is not sent, for not every server knows all."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": sampling.max_tokens,
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    # Greedy takes one token whatever the others' shares are, and some servers refuse a `top_p` of 0.
    if sampling.top_p < 1 and not sampling.greedy:
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


async def chunks(response: httpx.Response) -> AsyncIterator[Mapping[str, Any]]:
    """The JSON objects in a stream of server-sent events."""
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


def take(reply: Reply, chunk: Mapping[str, Any]) -> bool:
    """Adds a chunk to the answer; whether it held text. Raises TryAgainError for an error within the stream."""
    # Some servers send an empty field in every chunk.
    if chunk.get("error"):
        raise TryAgainError("an error in mid-answer")
    if isinstance(usage := chunk.get("usage"), dict):
        reply.usage = usage
    choices = chunk.get("choices") or [{}]
    finish = choices[0].get("finish_reason")
    if finish is not None:
        reply.finish = "length" if finish == "length" else "stop"
    content = (choices[0].get("delta") or {}).get("content")
    if not isinstance(content, str) or not content:
        return False
    content = reply.half + content
    reply.half = content[-1] if "\ud800" <= content[-1] <= "\udbff" else ""
    reply.text += whole_characters(content.removesuffix(reply.half))
    reply.chunks += 1
    return True


def complete(reply: Reply) -> None:
    """Ends the answer: half a character that was not completed becomes U+FFFD."""
    reply.text += whole_characters(reply.half)
    reply.half = ""


def refusal(response: httpx.Response, request: GenerationRequest) -> Exception:
    """The error for a status other than 200. The server's own text is left out, since it may quote the prompt."""
    status = response.status_code
    if status in _TRY_AGAIN:
        return TryAgainError(f"status {status}", _seconds(response.headers.get("retry-after")))
    if status in _TOO_MUCH:
        if request.sampling.schema is not None:
            return ParameterError(f"the server refuses the prompt or its JSON schema (status {status})")
        return PromptError(
            f"the server refuses the prompt (status {status})", hint="A shorter one, or fewer tokens, may fit."
        )
    return EngineFailedError(f"the server refuses to answer (status {status})")


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:  # an HTTP date, which is not used for seconds
        return None


def count(usage: Mapping[str, Any], name: str, otherwise: int) -> int:
    """A token count from the server; `otherwise` if it is missing or impossible."""
    value = usage.get(name)
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else otherwise
