"""The root model: a chat in, one reply out. What it is stands behind one small protocol.

`endpoint.py` asks an OpenAI-shaped server, `roots.py` a model of this machine or a provider of the swarm.
`ScriptedRoot` is no model: it says what it was given, for tests and offline benchmarks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pylon.errors import EngineError, PylonError, SetupError, UnreachableError
from pylon.jobs.size import text_bytes
from pylon.rlm.charges import Charge


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the chat: `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the root said. Tokens are as it counted them itself, or estimated; `msat` is what was paid for it, without
    what was charged beside it. `finish` is why it ended, as that of a `SubAnswer`."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    msat: int = 0
    finish: str | None = None

    @property
    def cut_off(self) -> bool:
        """Whether it goes on, and a limit of tokens or bytes did not let it."""
        return self.finish in ("length", "size")


class RootError(EngineError):
    """The root model gave no reply.

    `lasting` tells that asking again would not help; `retry_after_s` is the pause that its server asked for.
    `means` is the error that it is for a run whose root never said a word: `SetupError` where a setting is at fault,
    `UnreachableError` where nobody answers.
    """

    def __init__(
        self, message: str, *, hint: str = "", lasting: bool = True, means: type[PylonError] = EngineError
    ) -> None:
        super().__init__(message, hint=hint)
        self.lasting = lasting
        self.means = means
        self.retry_after_s = 0.0


def meaning(error: PylonError) -> type[PylonError]:
    """What an error of a root is for a run whose root never said a word."""
    return next((kind for kind in (SetupError, UnreachableError) if isinstance(error, kind)), EngineError)


# Takes what is known of a reply's cost beside its own, at once: whoever waits for it may not wait until it comes.
type Charged = Callable[[Charge], None]


def unpaid(charge: Charge) -> None:
    """For whoever books nothing."""


class Root(Protocol):
    """A root model. `name` says for the trajectory what it is; `most_msat` is what one reply may cost at most."""

    name: str
    context_tokens: int
    max_tokens: int
    most_msat: int

    async def reply(self, messages: Sequence[Message], *, loop: str = "", charged: Charged = unpaid) -> Reply:
        """The next turn of the loop of that name. Raises `RootError`. Cancelling it lets the request go."""

    async def close(self) -> None:
        """Lets go of what it holds."""


# Of prose; where letters are not ASCII a token has fewer of them, and each has more bytes.
_BYTES_PER_TOKEN = 4


def estimate_tokens(messages: Sequence[Message]) -> int:
    """About how many tokens a chat has, where nobody has counted them."""
    return sum(text_bytes(message.content) // _BYTES_PER_TOKEN + 4 for message in messages)


class ScriptedRoot:
    """A root that is no model: its turns are given beforehand, or made from the chat by a function.

        ScriptedRoot(["```repl\\nprint(len(context))\\n```", "FINAL(42)"])

    A script that has ended says its last turn again.
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
