"""A root model behind a server with the OpenAI API: `POST {base}/chat/completions`, without streaming."""

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson

from pylon import log
from pylon.errors import PylonError, SetupError, UnreachableError
from pylon.money.price import MAX_TOKENS
from pylon.relay_url import is_loopback
from pylon.rlm import refusals
from pylon.rlm.root import Charged, Message, Reply, RootError, estimate_tokens, unpaid
from pylon.text import whole_characters

logger = log.get("rlm")

# A turn is short: a server that sends more is broken or hostile.
MAX_BODY_BYTES = 8 * 1024 * 1024
RETRIES = 4
# A server that sends something other than a chat completion will probably do so again.
_MALFORMED_RETRIES = 1
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 30.0
# Two names for the same limit: newer servers know the first, older ones only the second, and some refuse requests
# with a field that they do not know.
_LIMITS = ("max_completion_tokens", "max_tokens")
_UNPROCESSABLE = {httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY}
_AGAIN = {408, 409, 425, 429}
_HINTS = {
    400: (
        "Check that the server knows `rlm.root_model`, and accepts `rlm.root_max_tokens` and `rlm.root_temperature`."
    ),
    401: "Check the key in `rlm.root_key_file`.",
    403: "Check that the key in `rlm.root_key_file` may use `rlm.root_model`.",
    404: "Check `rlm.root_url` and `rlm.root_model`.",
}


class OpenAIRoot:
    """A root model at `url`, the address without `/chat/completions`. The key comes from a file and is never shown.

    After status 429 or 5xx, or a broken connection, it asks again with growing pauses, or after the time in
    `Retry-After`; after an answer that is no chat completion, once. `timeout_s` bounds a single request. If a server
    refuses one of the two names of `max_tokens`, only the other is sent from then on.
    """

    most_msat = 0

    def __init__(
        self,
        url: str,
        model: str,
        context_tokens: int = 128_000,
        max_tokens: int = 4_096,
        *,
        key: str = "",
        temperature: float | None = None,
        seed: int | None = None,
        timeout_s: float = 300.0,
        rng: random.Random | None = None,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self.name = model
        self.context_tokens = context_tokens
        self.max_tokens = max_tokens
        self._wishes = {"temperature": temperature, "seed": seed, **dict.fromkeys(_LIMITS, max_tokens)}
        self._rng = rng or random.Random()  # noqa: S311 - it spreads retries, nothing secret
        self._first_wait_s = first_wait_s
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # A proxy elsewhere would look for a server of this machine on its own.
        here = is_loopback(httpx.URL(url).host)
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/", headers=headers, timeout=timeout_s, trust_env=not here
        )

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        loop: str = "",  # noqa: ARG002 - the seam's
        charged: Charged = unpaid,  # noqa: ARG002 - the seam's
    ) -> Reply:
        """See `Root`."""
        body = {name: value for name, value in self._wishes.items() if value is not None} | {
            "model": self.name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
        }
        wait_s = self._first_wait_s
        malformed = 0
        for left in range(RETRIES, -1, -1):
            try:
                return _read(await self._post(body), messages, self.name)
            except RootError as error:
                malformed += isinstance(error, _MalformedError)
                if error.lasting or not left or malformed > _MALFORMED_RETRIES:
                    raise
                logger.info("asking the root model again", reason=str(error), left=left)
                pause = error.retry_after_s or wait_s * (0.5 + self._rng.random())
            await asyncio.sleep(min(pause, MOST_WAIT_S))
            wait_s *= 2
        raise AssertionError("unreachable")

    async def _post(self, body: dict[str, Any]) -> bytes:
        response, data = await self._send(body)
        if response.status_code in _UNPROCESSABLE and all(name in body for name in _LIMITS):
            unwanted = refusals.unwanted(data, _LIMITS)
            if unwanted:
                del body[unwanted]
                self._wishes[unwanted] = None
                response, data = await self._send(body)
        if response.status_code != httpx.codes.OK:
            raise _refused(response, data)
        return data

    async def _send(self, body: dict[str, Any]) -> tuple[httpx.Response, bytes]:
        try:
            async with self._http.stream("POST", "chat/completions", json=body) as response:
                data = bytearray()
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > MAX_BODY_BYTES:
                        raise RootError(f"the root model's answer is over {MAX_BODY_BYTES} bytes")
        except httpx.HTTPError as error:
            raise RootError(
                f"the root model's endpoint does not answer ({type(error).__name__})",
                hint="Check `rlm.root_url`, and that the server is running.",
                lasting=False,
                means=UnreachableError,
            ) from error
        return response, bytes(data)

    async def close(self) -> None:
        """See `Root`."""
        await self._http.aclose()


def read_key(path: Path) -> str:
    """Reads a key from a file. Raises `SetupError`."""
    try:
        return path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            f"the root model's key cannot be read from {path}",
            hint="Set `rlm.root_key_file` to the file with the key.",
        ) from error


class _MalformedError(RootError):
    """The server answered, but not with a chat completion."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message, hint="Check that `rlm.root_url` is an OpenAI-compatible server.", lasting=False, means=SetupError
        )


def _refused(response: httpx.Response, body: bytes) -> RootError:
    status = response.status_code
    again = status in _AGAIN or status >= httpx.codes.INTERNAL_SERVER_ERROR
    means: type[PylonError] = UnreachableError if again else SetupError
    message = f"the root model's endpoint answered {status}"
    # The message for a wrong key may quote the key.
    said = status != httpx.codes.UNAUTHORIZED and refusals.words(
        body, response.request.headers.get("authorization", "")
    )
    message += f": {said}" if said else ""
    error = RootError(message, hint=_HINTS.get(status, ""), lasting=not again, means=means)
    after = response.headers.get("retry-after", "")
    # ASCII only: "²" is a digit too, but `float` refuses it.
    if again and after.isascii() and after.isdigit():
        error.retry_after_s = float(after)
    return error


def _read(data: bytes, messages: Sequence[Message], name: str) -> Reply:
    """The first choice of a chat completion, of which anything may be missing or of a wrong type. Raises
    `RootError`."""
    try:
        answer = _decoded(data)
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    # ValueError: invalid JSON, or a number with more digits than Python takes.
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise _MalformedError("the root model's endpoint sent no chat completion") from error
    if text is None:
        text = ""  # a model that only thought, or refused
    if isinstance(text, list):
        parts = (part.get("text") for part in text if isinstance(part, dict) and part.get("type") == "text")
        text = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(text, str):
        raise _MalformedError("the root model's endpoint sent no text")
    text = whole_characters(text)
    model, finish = answer.get("model"), choice.get("finish_reason")
    return Reply(
        text,
        _count(answer, "prompt_tokens", estimate_tokens(messages)),
        _count(answer, "completion_tokens", estimate_tokens([Message("assistant", text)])),
        whole_characters(model) if isinstance(model, str) and model else name,
        finish=("length" if finish == "length" else "stop") if isinstance(finish, str) else None,
    )


def _decoded(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # Some servers cut a character in two and escape each half, as `\ud800`, which orjson refuses.
        return json.loads(data)


def _count(answer: dict[str, Any], name: str, otherwise: int) -> int:
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count <= MAX_TOKENS else otherwise
