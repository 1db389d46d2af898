"""Reads the refusals of a chat-completions server: its message, and a field that it does not take. Pure.

The message comes from a stranger, and may quote the header that holds the key.
"""

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pylon.text import clean_line

_SHOWN_CHARS = 300
# The part of a message that is searched for secrets, and of which the beginning is shown.
_READ_CHARS = 4_000
_DEEPEST = 6
_HIDDEN = "***"
# Servers shorten keys that they quote, so any part of a key of this length is hidden.
_SECRET_CHARS = 6
# Other keys, by their usual forms, and credentials in a quoted header.
_KEYS = re.compile(
    r"\b(?i:sk|pk|rk|gsk|xai|hf|ghp)[-_][\w*.-]{6,}|\b(?i:key|api)[-_](?=[\w.-]*[\d*])[\w*.-]{6,}"
    r"|(?<=[Bb]earer )\S{6,}"
    r"|(?<=[Bb]asic )(?=\S*(?:[\d=]|[a-z][A-Z]))\S{8,}"
)
_UNWANTED = re.compile(
    r"unsupported|not support|unknown|unrecogni|unexpected|not permitted|not allowed|extra|forbidden|same time|both"
    r"|only one|instead|exclusive",
    re.IGNORECASE,
)


def words(body: bytes, authorization: str) -> str:
    """The server's message, a few hundred characters at most, with the secrets of the request's `Authorization`
    header hidden; empty if there is none."""
    text = " ".join(clean_line(_found(_read(body))[:_READ_CHARS]).split())
    text = _KEYS.sub(_HIDDEN, _without(text, _secrets(authorization)))
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def unwanted(body: bytes, fields: Sequence[str]) -> str:
    """The first of these fields of a request that the server says it does not take; empty if there is none."""
    answer = _read(body)
    said = _found(answer)[:_READ_CHARS]
    if not _UNWANTED.search(said):
        return ""
    error = answer.get("error") if isinstance(answer, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    if isinstance(param, str) and param in fields:
        return param
    named = [found for field in fields if (found := re.search(rf"\b{re.escape(field)}\b", said))]
    return min(named, key=lambda found: found.start())[0] if named else ""


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _found(value: Any, depth: int = 0) -> str:
    """The message in a decoded body: in `error.message`, `error`, `message` or `detail`, possibly in a list."""
    if isinstance(value, str):
        return value
    if depth > _DEEPEST:
        return ""
    if isinstance(value, list):
        return _found(value[0], depth + 1) if value else ""
    if not isinstance(value, dict):
        return ""
    inner = next((value[name] for name in ("error", "message", "detail", "msg") if value.get(name)), None)
    place = value.get("loc")
    at = f"{place[-1]}: " if isinstance(place, list) and place and isinstance(place[-1], str) else ""
    said = _found(inner, depth + 1)
    return f"{at}{said}" if said else ""


def _secrets(authorization: str) -> list[str]:
    """The secrets in an `Authorization` header: the key, or of basic authentication user and password."""
    scheme, _, credential = authorization.partition(" ")
    secrets = [credential.strip()]
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, ValueError):
            secrets += base64.b64decode(credential).decode("utf-8", "replace").split(":", 1)
    return [secret for secret in secrets if secret]


def _without(text: str, secrets: Iterable[str]) -> str:
    """The text with every part of a secret of `_SECRET_CHARS` characters or more hidden."""
    hidden = bytearray(len(text))
    for secret in secrets:
        size = min(len(secret), _SECRET_CHARS)
        for part in {secret[at : at + size] for at in range(len(secret) - size + 1)}:
            at = text.find(part)
            while at >= 0:
                hidden[at : at + size] = b"\1" * size
                at = text.find(part, at + 1)
    kept = [None if hide else sign for sign, hide in zip(text, hidden, strict=True)]
    shown: list[str] = []
    for place, sign in enumerate(kept):
        if sign is not None:
            shown.append(sign)
        elif not place or kept[place - 1] is not None:
            shown.append(_HIDDEN)
    return "".join(shown)
