"""The fields that each type of event must have. Readers check them, since the file may have been edited. Pure."""

from typing import Annotated, Any, NotRequired, TypedDict

from pydantic import Field, TypeAdapter, ValidationError

type _Count = Annotated[int, Field(ge=0)]


class _Text(TypedDict):
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    chars: _Count
    preview: str


class _Event(TypedDict):
    n: _Count
    type: str
    at: float


class _InLoop(_Event):
    loop: str
    turn: _Count


class _Loop(_Event):
    loop: str
    depth: _Count
    system: _Text
    opening: _Text


class _Root(TypedDict):
    name: str
    context_tokens: _Count
    kind: NotRequired[str]
    model: NotRequired[str]
    temperature: NotRequired[float | None]
    max_tokens: NotRequired[_Count]
    tier: NotRequired[str]


class _Sub(TypedDict):
    name: str
    models: list[str]
    context_tokens: _Count
    width: _Count
    model: str | None
    max_tokens: _Count
    temperature: float
    seed: NotRequired[int | None]


class _Limits(TypedDict):
    msat: _Count | None
    calls: _Count | None
    tokens: _Count | None
    wall_s: float | None
    depth: _Count
    prompt_chars: _Count | None
    turns: NotRequired[_Count | None]
    disk_bytes: NotRequired[_Count | None]


class _File(TypedDict):
    name: str
    path: str
    sha256: str


class _Context(TypedDict):
    kind: str
    chars: _Count
    files: list[_File]


class _Spent(TypedDict):
    msat: _Count
    calls: _Count
    tokens: _Count
    turns: NotRequired[_Count]


class _Before(TypedDict):
    at: float
    seconds: float
    spent: _Spent
    root_tokens: _Count
    sub_tokens: _Count


class _Run(_Event):
    question: _Text
    strategy: str
    root: _Root
    sub: _Sub
    limits: _Limits
    turns: _Count
    context: _Context
    sandbox: NotRequired[str]
    cell: NotRequired[dict[str, float]]
    before: NotRequired[_Before | None]


class _Turn(_InLoop):
    last: bool
    reply: _Text
    model: str
    msat: _Count
    prompt_tokens: _Count
    completion_tokens: _Count
    finish: NotRequired[str | None]
    ms: _Count


class _Shown(_InLoop):
    text: _Text


class _Budget(_InLoop):
    spent: _Spent


class _Error(TypedDict):
    kind: str
    text: str


class _Answer(TypedDict):
    ready: bool
    content: _Text


class _Variable(TypedDict):
    name: str
    type: str
    preview: str


class _Cell(_InLoop):
    cell: _Count
    code: _Text
    stdout: _Text
    stderr: _Text
    wall_s: float
    error: _Error | None
    answer: _Answer | None
    variables: list[_Variable]


class _Call(_InLoop):
    call: str
    prompt: _Text


class _Submitted(_Call):
    kind: str
    model: str | None


class _Repeated(_Call):
    model: NotRequired[str | None]


class _Failed(_Call):
    code: str
    message: str
    attempts: _Count


class _Answered(_Call):
    text: _Text
    provider: str
    model: str
    msat: _Count
    verified: list[str]
    tokens: NotRequired[_Count]
    prompt_tokens: NotRequired[_Count]
    completion_tokens: NotRequired[_Count]
    finish: NotRequired[str | None]
    sha256: NotRequired[str]


class _Charged(_InLoop):
    msat: _Count
    ask: NotRequired[str]


class _Reserved(_InLoop):
    ask: str
    msat: _Count
    calls: list[str]


class _Settled(_InLoop):
    ask: str


class _Cut(_Event):
    loop: str
    turn: _Count
    cell: _Count


class _Final(_Event):
    answer: _Text | None
    partial: bool
    reason: str
    detail: str
    spent: _Spent
    hint: NotRequired[str]


_SHAPES: dict[str, TypeAdapter[Any]] = {
    "run": TypeAdapter(_Run), "loop": TypeAdapter(_Loop), "turn": TypeAdapter(_Turn), "shown": TypeAdapter(_Shown),
    "budget": TypeAdapter(_Budget), "cell": TypeAdapter(_Cell), "submitted": TypeAdapter(_Submitted),
    "repeated": TypeAdapter(_Repeated), "charged": TypeAdapter(_Charged), "reserved": TypeAdapter(_Reserved),
    "settled": TypeAdapter(_Settled), "cut": TypeAdapter(_Cut), "final": TypeAdapter(_Final),
}  # fmt: skip
_ANY: TypeAdapter[Any] = TypeAdapter(_Event)
_FAILED: TypeAdapter[Any] = TypeAdapter(_Failed)
_ANSWERED: TypeAdapter[Any] = TypeAdapter(_Answered)


def fault(event: dict[str, Any], place: int) -> str:
    """What is wrong with an event at this place in its file (from 0), in words; empty if nothing is. The place is
    checked since an event that is lost or there twice would make the sums of what was spent wrong."""
    kind = event["type"]
    shape = _ANY if not isinstance(kind, str) else _SHAPES.get(kind)
    if kind == "returned":
        shape = _FAILED if "code" in event else _ANSWERED
    if shape is None:
        return f"type: there is no event {kind[:40]!r}"
    try:
        shape.validate_python(event, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if event["n"] != place:
        return f"n: {event['n']} stands where {place} should"
    return ""
