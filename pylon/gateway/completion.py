"""Turns rows of the core's `ask` call into OpenAI's chat completions, and into the chunks of a stream."""

from collections.abc import Mapping
from typing import Any

from pylon.jobs.size import text_bytes
from pylon.text import clean_line

_FINISH = {"stop": "stop", "length": "length", "size": "length"}
# For an estimate when the provider did not count tokens: most prose has about so many bytes per token.
_BYTES_PER_TOKEN = 4
_LONGEST_HEADER = 200

type Json = dict[str, Any]


def completion(row: Json, job: Json, created: int) -> Json:
    """The `chat.completion` for a row that has an answer. `created` is Unix seconds."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": row["text"], "refusal": None},
        "logprobs": None,
        "finish_reason": finish_reason(row),
    }
    about = {"model": row["model"], "choices": [choice], "usage": usage(row, job), "pylon": provenance(row)}
    return {"id": _id(row), "object": "chat.completion", "created": created, **about}


def chunk(number: str, model: str, created: int, delta: Json, finish: str | None = None) -> Json:
    """A `chat.completion.chunk` with a piece of the answer; `number` is the id of the completion."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": number, "object": "chat.completion.chunk", "created": created, "model": model}
    return {**head, "choices": [choice]}


def finish_reason(row: Json) -> str:
    """Why the answer ends, in OpenAI's words."""
    return _FINISH.get(row["finish"] or "", "stop")


def usage(row: Json, job: Json) -> Json:
    """OpenAI's `usage`: tokens as the provider counted them, or an estimate from the bytes of text."""
    counted = row["usage"]
    if counted is None:
        asked = text_bytes(job.get("prompt", "")) + text_bytes(job.get("system", ""))
        asked += sum(text_bytes(message["content"]) for message in job.get("messages", ()))
        prompt, made = (-(-size // _BYTES_PER_TOKEN) for size in (asked, text_bytes(row["text"])))
    else:
        prompt, made = counted["prompt_tokens"], counted["completion_tokens"]
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def provenance(row: Json) -> Json:
    """Who answered, with what, for how much, and what of it was checked: the object `pylon` of a completion."""
    return {
        "provider": row["provider"],
        "model": row["model"],
        "sha256": row["sha256"],
        "paid_msat": row["charged_msat"],
        "verified": list(row["verified"]),
        "attempts": row["attempts"],
        "latency_ms": row["latency_ms"],
        "queue_ms": row["queue_ms"],
        "run_ms": row["run_ms"],
        "request_id": row["request_id"],
        "result_id": row["result_id"],
        "usage_estimated": row["usage"] is None,
    }


def headers(row: Json) -> dict[str, str]:
    """The short parts of `provenance` as response headers."""
    said: Mapping[str, object] = {
        "x-pylon-provider": row["provider"],
        "x-pylon-sha256": row["sha256"],
        "x-pylon-paid-msat": row["charged_msat"],
        "x-pylon-verified": ",".join(row["verified"]),
        "x-pylon-attempts": row["attempts"],
    }
    # Strangers can influence some values, and a header must be one line of ASCII.
    texts = {name: clean_line(str(value)).encode("ascii", "replace").decode() for name, value in said.items()}
    return {name: value[:_LONGEST_HEADER] for name, value in texts.items() if value}


def _id(row: Json) -> str:
    return f"chatcmpl-{row['request_id'][:32]}"
