"""The root model, which leads a loop: a chat in, one reply out.

`Root` is the interface. `endpoint.py` asks a server with the OpenAI API, `roots.py` a model on this machine or a
provider of the swarm. `ScriptedRoot` here repeats given turns, for tests and offline benchmarks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pylon.errors import EngineError, PylonError, SetupError, UnreachableError
from pylon.jobs.size import text_bytes
from pylon.rlm.charges import Charge


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat: `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the root. Tokens are those that it reports, or estimates; `msat` is the price of the reply, without
    extra charges. `finish` is why it ended, as in `SubAnswer`."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    msat: int = 0
    finish: str | None = None

    @property
    def cut_off(self) -> bool:
        """Whether a limit of tokens or bytes cut the reply off."""
        return self.finish in ("length", "size")


class RootError(EngineError):
    """The root model gave no reply.

    `lasting` tells that asking again would not help; `retry_after_s` is the pause that its server asked for.
    `means` is the type of error to report if the root of a run never replied: `SetupError` if a setting is wrong,
    `UnreachableError` if nobody answers.
    """

    def __init__(
        self, message: str, *, hint: str = "", lasting: bool = True, means: type[PylonError] = EngineError
    ) -> None:
        super().__init__(message, hint=hint)
        self.lasting = lasting
        self.means = means
        self.retry_after_s = 0.0


def meaning(error: PylonError) -> type[PylonError]:
    """The type of error to report if the root of a run never replied because of this error."""
    return next((kind for kind in (SetupError, UnreachableError) if isinstance(error, kind)), EngineError)


# Hears charges besides the price of a reply as soon as they are known, since the reply may never come.
type Charged = Callable[[Charge], None]


def unpaid(charge: Charge) -> None:
    """Ignores a charge."""


class Root(Protocol):
    """A root model. `name` is its name in the trajectory; `context_tokens` is its window, `max_tokens` the longest
    reply (0: no model, but a program); `most_msat` is the most that one reply may cost."""

    name: str
    context_tokens: int
    max_tokens: int
    most_msat: int

    async def reply(self, messages: Sequence[Message], *, loop: str = "", charged: Charged = unpaid) -> Reply:
        """The reply to a chat, as the next turn of the loop of that name; `charged` hears extra charges. Raises
        `RootError`. Cancelling it cancels the request."""

    async def close(self) -> None:
        """Releases its connections or processes."""


# An estimate for prose. It holds for other scripts too: a token has fewer of their letters, but each has more bytes.
_BYTES_PER_TOKEN = 4


def estimate_tokens(messages: Sequence[Message]) -> int:
    """An estimate of the tokens of a chat."""
    return sum(text_bytes(message.content) // _BYTES_PER_TOKEN + 4 for message in messages)


class ScriptedRoot:
    """A root without a model: its turns are given beforehand, or made from the chat by a function.

        ScriptedRoot(["```repl\\nprint(len(context))\\n```", "FINAL(42)"])

    After the end of the script the last turn is repeated.
    """

    def __init__(
        self,
        turns: Sequence[str] | Callable[[Sequence[Message]], str],
        *,
        name: str = "scripted",
        context_tokens: int = 128_000,
    ) -> None:
        self.name = name
        self.context_tokens = context_tokens
        self.max_tokens = 4_096
        self.most_msat = 0
        self._turns = turns
        self.chats: list[tuple[Message, ...]] = []

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        loop: str = "",  # noqa: ARG002 - the seam's
        charged: Charged = unpaid,  # noqa: ARG002 - the seam's
    ) -> Reply:
        """See `Root`."""
        turn = sum(message.role == "assistant" for message in messages)
        self.chats.append(tuple(messages))
        turns = self._turns
        text = turns(messages) if callable(turns) else turns[min(turn, len(turns) - 1)]
        return Reply(text, estimate_tokens(messages), len(text) // _BYTES_PER_TOKEN, self.name)

    async def close(self) -> None:
        """See `Root`."""
