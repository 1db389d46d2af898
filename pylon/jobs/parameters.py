"""The `param` tags of a job request: how an answer is to be made."""

import re
from collections.abc import Iterable
from typing import Literal

from pylon.jobs.codes import ErrorCode, RequestError
from pylon.nostr.event import Tag
from pylon.records import record

MAX_TOKENS = 1_000_000
MAX_MODEL = 200
MAX_SYSTEM = 200_000
MAX_SCHEMA = 100_000
MAX_STOPS = 16
MAX_STOP = 256

# Python's `float` takes more (blanks, underscores, "nan", digits of other scripts), which other languages do not.
_NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\Z")
_RANGES = {"max_tokens": (1, MAX_TOKENS), "top_k": (0, 1_000_000), "seed": (0, 2**63 - 1)}
# NIP-90's own examples write these two with a hyphen, its registry of kinds with an underscore.
_SPELLINGS = {"top-k": "top_k", "top-p": "top_p"}


@record
class JobParameters:
    """How an answer is to be made. All are optional; None leaves the choice to the provider.

    `model` is an id or `sha256:…` of the weights. With `messages`, the request's text is a JSON chat array.
    `format` is `text` or `json_schema`, then `schema` holds the schema's JSON text.
    """

    model: str | None = None
    system: str | None = None
    messages: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    format: Literal["text", "json_schema"] = "text"
    schema: str | None = None
    stream: bool = False

    def to_tags(self) -> tuple[Tag, ...]:
        """The `param` tags; None makes no tag.

        Nothing is checked here: parameters may be sent exactly if `parse_parameters` reads the same ones from the
        tags.
        """
        tags: list[Tag] = []
        for name in ("model", "system"):
            value = getattr(self, name)
            if value is not None:
                tags.append(("param", name, value))
        for name in ("max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "seed"):
            number = getattr(self, name)
            if number is not None:
                tags.append(("param", name, repr(number)))
        tags.extend(("param", "stop", text) for text in self.stop)
        if self.messages:
            tags.append(("param", "messages", "json"))
        if self.format == "json_schema":
            tags.append(("param", "format", "json_schema", self.schema or ""))
        if self.stream:
            tags.append(("param", "stream", "true"))
        return tuple(tags)


def parse_parameters(tags: Iterable[Tag]) -> JobParameters:
    """The parameters in a request's tags.

    Raises `RequestError`: `unsupported_param` for a name that is not known here, since an answer made without
    it would not be what was asked for; `malformed` for a value that is not of its type or range.
    """
    known: dict[str, object] = {}
    stops: list[str] = []
    for tag in tags:
        if tag[0] != "param":
            continue
        if len(tag) < 3:
            raise RequestError(ErrorCode.MALFORMED, "a param tag needs a name and a value")
        name, value = _SPELLINGS.get(tag[1], tag[1]), tag[2]
        if name == "stop":
            if not 1 <= len(value) <= MAX_STOP or len(stops) == MAX_STOPS:
                raise _wrong(name, f"at most {MAX_STOPS} strings of 1 to {MAX_STOP} characters")
            stops.append(value)
        elif name in known:
            raise _wrong(name, "given once")
        elif name == "format":
            known[name] = _format(value)
            if value == "json_schema":
                known["schema"] = _schema(tag)
        elif name in _PARSERS:
            known[name] = _PARSERS[name](name, value)
        else:
            raise RequestError(ErrorCode.UNSUPPORTED_PARAM, f"the parameter {name[:40]!r} is not known here")
    return JobParameters(stop=tuple(stops), **known)  # type: ignore[arg-type]  # each parser gives its field's type


def _wrong(name: str, expected: str) -> RequestError:
    return RequestError(ErrorCode.MALFORMED, f"the parameter {name} must be {expected}")


def _model(name: str, value: str) -> str:
    if not 1 <= len(value) <= MAX_MODEL:
        raise _wrong(name, f"1 to {MAX_MODEL} characters")
    return value


def _system(name: str, value: str) -> str:
    if len(value) > MAX_SYSTEM:
        raise _wrong(name, f"at most {MAX_SYSTEM} characters")
    return value


def _integer(name: str, value: str) -> int:
    low, high = _RANGES[name]
    digits = value.isascii() and value.isdigit() and len(value) <= 19
    if not digits or not low <= int(value) <= high:
        raise _wrong(name, f"a whole number from {low} to {high}")
    return int(value)


def _number(name: str, value: str) -> float:
    low, high = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "frequency_penalty": (-2.0, 2.0)}[name]
    if len(value) > 32 or not _NUMBER.match(value) or not low <= float(value) <= high:
        raise _wrong(name, f"a number from {low:g} to {high:g}")
    return float(value)


def _messages(name: str, value: str) -> bool:
    if value != "json":
        raise _wrong(name, "'json', with the chat array as the request's text")
    return True


def _stream(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise _wrong(name, "'true' or 'false'")
    return value == "true"


def _format(value: str) -> str:
    if value not in ("text", "json_schema"):
        raise RequestError(ErrorCode.UNSUPPORTED_PARAM, f"the format {value[:40]!r} is not known here")
    return value


def _schema(tag: Tag) -> str:
    if len(tag) < 4 or not 1 <= len(tag[3]) <= MAX_SCHEMA:
        raise _wrong("format", f"followed by a JSON schema of at most {MAX_SCHEMA} characters")
    return tag[3]


_PARSERS = {
    "model": _model,
    "system": _system,
    "messages": _messages,
    "max_tokens": _integer,
    "top_k": _integer,
    "seed": _integer,
    "temperature": _number,
    "top_p": _number,
    "frequency_penalty": _number,
    "stream": _stream,
}
