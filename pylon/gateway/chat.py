"""Reads a request for a chat completion into a job.

A parameter that would change the answer and that a job cannot express is not ignored: it is a `Problem` that names
it. Fields are those of OpenAI's API reference, "Create chat completion".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pylon.gateway.fields import flag, number, refuse, text, whole
from pylon.gateway.problems import Problem
from pylon.jobs.parameters import MAX_MODEL, MAX_SCHEMA, MAX_STOP, MAX_STOPS, MAX_SYSTEM, MAX_TOKENS

# Model names with which any model may answer.
ANY_MODEL = frozenset({"any", "default"})
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Parameters about the client or its billing, which are ignored: the answer is the same without them.
_NO_MATTER = frozenset(
    {"user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
# Parameters that are not supported, with the values that ask for nothing.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
    "store": (False,),
    "modalities": (["text"],),
}
_READ = frozenset(
    {
        "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k",
        "frequency_penalty", "seed", "stop", "response_format", "stream", "stream_options", "pylon",
    }
)  # fmt: skip
_OF_PYLON = frozenset({"timeout_s", "bid_msat", "votes"})
_LONGEST_S = 86_400
# As many as OpenAI accepts. They are read while everything else waits; the parts of one message have the same limit.
MOST_MESSAGES = 2_048


@dataclass(frozen=True, slots=True)
class Chat:
    """A job as the `ask` call takes it, and whether its answer is streamed, and with its token counts."""

    job: dict[str, Any]
    stream: bool = False
    include_usage: bool = False


def read(body: bytes) -> Chat:
    """Reads a request body. Raises `Problem` (400) that names the parameter at fault."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise Problem(400, "invalid_json", "the body is not a JSON object")
    given = {name: value for name, value in said.items() if value is not None}
    _check_names(given)
    model = text(given, "model", low=1, high=MAX_MODEL)
    job: dict[str, Any] = _question(given.get("messages"))
    job |= {
        "model": None if model is None or model in ANY_MODEL else model,
        "max_tokens": _max_tokens(given),
        "temperature": number(given, "temperature", 0, 2),
        "top_p": number(given, "top_p", 0, 1),
        "top_k": whole(given, "top_k", 0, 1_000_000),
        "frequency_penalty": number(given, "frequency_penalty", -2, 2),
        "seed": whole(given, "seed", 0, 2**63 - 1),
        "stop": _stop(given.get("stop")),
        "schema": _schema(given.get("response_format")),
        **_of_pylon(given.get("pylon")),
    }
    stream, options = flag(given, "stream"), given.get("stream_options", {})
    if not isinstance(options, dict):
        raise refuse("stream_options", "be an object")
    if options and not stream:
        raise refuse("stream_options", "come with `stream: true`")
    usage = flag(options, "include_usage", "stream_options.include_usage")
    job = {name: value for name, value in job.items() if value is not None}
    return Chat(job, stream, usage)


def _check_names(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _READ or name in _NO_MATTER:
            continue
        if name not in _NEUTRAL:
            raise Problem(
                400, "unsupported_parameter", f"the parameter {name[:60]!r} is not supported", param=name[:60]
            )
        if not any(value == neutral and type(value) is type(neutral) for neutral in _NEUTRAL[name]):
            raise Problem(
                400,
                "unsupported_value",
                f"{name} is not supported; leave it out",
                param=name,
            )


def _question(messages: object) -> dict[str, Any]:
    """The job's prompt and system message if the chat has no other messages; else its messages."""
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        raise refuse("messages", f"be a list of 1 to {MOST_MESSAGES:,} messages")
    chat = [_message(message, f"messages[{place}]") for place, message in enumerate(messages)]
    match chat:
        case [("user", prompt)]:
            return {"prompt": prompt}
        case [("system", system), ("user", prompt)] if len(system) <= MAX_SYSTEM:
            return {"prompt": prompt, "system": system}
    return {"messages": [{"role": role, "content": content} for role, content in chat]}


def _message(message: object, where: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise refuse(where, "be an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise refuse(f"{where}.role", f"be one of {', '.join(_ROLES)}")
    for name, value in message.items():
        if name not in ("role", "content") and value not in (None, [], ""):
            raise Problem(
                400,
                "unsupported_parameter",
                f"the field {str(name)[:60]!r} in a message is not supported",
                param=where,
            )
    return _ROLES[role], _content(message.get("content"), f"{where}.content")


def _content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not 1 <= len(content) <= MOST_MESSAGES:
        raise refuse(where, f"be text, or 1 to {MOST_MESSAGES:,} parts of it")
    parts = []
    for part in content:
        match part:
            case {"type": "text", "text": str(piece)}:
                parts.append(piece)
            case _:
                raise Problem(400, "unsupported_value", f"{where} may only have parts of type text", param=where)
    return "".join(parts)


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    old, new = (whole(given, name, 1, MAX_TOKENS) for name in ("max_tokens", "max_completion_tokens"))
    if old is not None and new is not None and old != new:
        raise refuse("max_tokens", "be the same as max_completion_tokens, or be left out")
    return new if old is None else old


def _stop(stop: object) -> list[str] | None:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return None
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(map(_is_stop, stops)):
        raise refuse("stop", f"be at most {MAX_STOPS} texts of 1 to {MAX_STOP} characters")
    return stops


def _is_stop(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_STOP


def _schema(form: object) -> dict[str, Any] | None:
    match form:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            where = "response_format.json_schema.schema"
            try:
                size = len(orjson.dumps(schema))
            except TypeError:
                raise refuse(where, "nest less deeply") from None
            if size > MAX_SCHEMA:
                raise refuse(where, f"have at most {MAX_SCHEMA} characters")
            return schema
    raise refuse("response_format", "be of type text, json_object, or json_schema with a schema")


def _of_pylon(given: object) -> dict[str, Any]:
    """Job parameters that OpenAI's API lacks, from the object `pylon` of the body."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not set(given) <= _OF_PYLON:
        raise refuse("pylon", f"be an object of {', '.join(sorted(_OF_PYLON))}")
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "timeout": ("timeout_s", lambda name: number(given, name, 0.1, _LONGEST_S, f"pylon.{name}")),
        "bid_msat": ("bid_msat", lambda name: whole(given, name, 0, 2**53, f"pylon.{name}")),
        "votes": ("votes", lambda name: whole(given, name, 1, 9, f"pylon.{name}")),
    }
    return {field: read(name) for field, (name, read) in readers.items()}
