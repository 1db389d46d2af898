"""Sub-calls from inside the sandbox: `llm_query` and its relatives, and the answers that they return."""

import itertools
import json
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Self

from .port import GROUP_BYTES, PART_BYTES, Message, Port, json_bytes

# The most characters of a model's name.
MODEL_CHARS = 200
# The most levels of lists and dicts in an answer.
DEEPEST = 200

type Ask = tuple[str, str | None, str]  # `llm` or `rlm`, the model, the prompt


class Reply(str):
    """The answer to a sub-call. It can be awaited, since some models take `llm_query` for a coroutine.

    `finish` is why it ended: `stop` if it is complete, `length` or `size` if it was cut off, `partial` if the loop
    that gave it did not complete it, None if that is not known.
    """

    __slots__ = ("finish",)
    finish: str | None

    def __new__(cls, text: str = "", finish: str | None = None) -> Self:
        self = super().__new__(cls, text)
        self.finish = finish
        return self

    def __await__(self) -> Generator[Any, None, "Reply"]:
        yield from ()
        return self


class SubCallError(Reply):
    """The failure of a sub-call, in place of its answer: the text says what happened, `code` is for programs."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, text: str, code: str = "failed") -> "SubCallError":
        self = super().__new__(cls, text)
        self.code = code
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (SubCallError, (str(self), self.code))

    def __repr__(self) -> str:
        return f"SubCallError({str(self)!r}, code={self.code!r})"


class Calls:
    """Sends the sub-calls of one REPL to the host, and counts them by cell."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._ids = itertools.count(1)
        self.limit = 0
        self.made = 0
        self.refused = 0
        # Answers to calls that were asked ahead, and that the code has not made yet.
        self.waiting: dict[Ask, deque[Reply]] = {}
        # Such answers that an earlier cell, which was cut off, has left.
        self._kept: dict[Ask, deque[Reply]] = {}

    def start_cell(self, limit: int, *, keep: bool = False) -> None:
        """Begins to count for the next cell, which may make up to `limit` calls.

        `keep`: the cell before was cut off. Its code is likely to be run again, so the answers to calls that were
        asked ahead for it are kept.
        """
        if keep:
            for ask, replies in self.waiting.items():
                self._kept.setdefault(ask, deque()).extend(replies)
        else:
            self._kept = {}
        self.waiting = {}
        self.limit, self.made, self.refused = limit, 0, 0

    def send(self, kind: str, prompts: Sequence[object], model: str | None = None) -> list[Reply]:
        """Asks all prompts together: one reply for each, in their order, a SubCallError for what fails."""
        texts = [text_of(prompt) for prompt in prompts]
        replies = [self._foreseen(kind, text, model) for text in texts]
        lacking = [slot for slot, reply in enumerate(replies) if reply is None]
        for slot, reply in zip(lacking, self._send(kind, [texts[slot] for slot in lacking], model), strict=True):
            replies[slot] = reply
        return [reply for reply in replies if reply is not None]

    def ask_ahead(self, asks: Sequence[Ask]) -> None:
        """Sends calls that the code is certain to make later; their answers wait for it."""
        groups: dict[tuple[str, str | None], list[str]] = {}
        for kind, model, text in asks:
            kept = _taken(self._kept, (kind, model, text))
            if kept is None:
                groups.setdefault((kind, model), []).append(text)
            else:
                self.waiting.setdefault((kind, model, text), deque()).append(kept)
        for (kind, model), texts in groups.items():
            for text, reply in zip(texts, self._send(kind, texts, model), strict=True):
                self.waiting.setdefault((kind, model, text), deque()).append(reply)

    def room(self) -> int:
        """How many sub-calls the code may still make in this cell, including those that were asked ahead."""
        return self.limit - self.made + sum(map(len, list(self.waiting.values())))

    def _foreseen(self, kind: str, text: str, model: str | None) -> Reply | None:
        if not (self.waiting or self._kept) or not isinstance(model, str | None):
            return None
        reply = _taken(self.waiting, (kind, model, text))
        return _taken(self._kept, (kind, model, text)) if reply is None else reply

    def _send(self, kind: str, texts: Sequence[str], model: str | None) -> list[Reply]:
        replies: list[Reply | None] = [None] * len(texts)
        sent: list[list[int]] = []  # which slots each request carries
        size = 0
        for slot, text in enumerate(texts):
            if self.made >= self.limit:
                self.refused += 1
                replies[slot] = SubCallError(f"Not asked: a cell may make {self.limit} sub-calls.", "call_limit")
                continue
            # A text with too many characters is not encoded just to be measured: it may be huge.
            length = json_bytes(text) if len(text) <= PART_BYTES else len(text)
            if length > PART_BYTES:
                replies[slot] = SubCallError(
                    f"Not asked: {len(text)} characters are too many; the most is {PART_BYTES} bytes of JSON.",
                    "too_large",
                )
                continue
            self.made += 1
            if not sent or size + length > GROUP_BYTES:
                sent.append([])
                size = 0
            sent[-1].append(slot)
            size += length
        requests: list[Message] = [
            {
                "type": "calls",
                "id": f"c{next(self._ids)}",
                "kind": kind,
                "prompts": [texts[slot] for slot in slots],
                "model": None if model is None else str(model)[:MODEL_CHARS],
            }
            for slots in sent
        ]
        for slots, answer in zip(sent, self._port.ask(requests) if requests else [], strict=True):
            for slot, (text, code, finish) in zip(slots, answer["replies"], strict=True):
                replies[slot] = Reply(text, finish) if code is None else SubCallError(text, code)
        return [reply for reply in replies if reply is not None]


def _taken(answers: dict[Ask, deque[Reply]], ask: Ask) -> Reply | None:
    replies = answers.get(ask, deque())
    try:
        reply = replies.popleft()
    except IndexError:  # another thread may have taken it just now
        return None
    if not replies:
        answers.pop(ask, None)
    return reply


class Query:
    """`llm_query` or `rlm_query`: called with one prompt, or by `batch` with many."""

    def __init__(self, calls: Calls, kind: str) -> None:
        self._calls = calls
        self.kind = kind
        self.__name__ = self.__qualname__ = f"{kind}_query"
        self.__doc__ = (
            f"Asks one {kind} and returns its answer, a str. `{kind}_query_batched(prompts)` asks many at once."
        )

    def __call__(self, prompt: object, model: str | None = None) -> Reply:
        return self._calls.send(self.kind, [prompt], model)[0]

    def batch(self, prompts: Iterable[object], model: str | None = None) -> list[Reply]:
        """Asks all prompts together; the answers are in the order of the prompts."""
        if isinstance(prompts, str):
            raise TypeError(
                f"{self.kind}_query_batched takes a list of prompts; for one prompt use {self.kind}_query."
            )
        return self._calls.send(self.kind, list(prompts), model)

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"


def text_of(prompt: object) -> str:
    """The text of a prompt. Raises what `as_text` does."""
    if isinstance(prompt, str):
        return str(prompt)
    if isinstance(prompt, bytes):
        return prompt.decode("utf-8", "replace")
    return as_text(prompt)


def as_text(value: object) -> str:
    """The text of a value: a str as it is, plain data as JSON, anything else by `str`.

    Raises ValueError for data that is nested too deep, and whatever the code's own `__str__` raises.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | dict | tuple):
        if _is_deep(value):
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        try:
            return json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            pass
    return str(value)


def _is_deep(value: object) -> bool:
    # Level by level, without recursion: in WebAssembly that would overflow the stack and end the sandbox.
    level = {id(value): value}
    for _ in range(DEEPEST):
        inner: list[object] = []
        for one in level.values():
            inner += one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
        level = {id(one): one for one in inner if isinstance(one, list | dict | tuple)}
        if not level:
            return False
    return True
