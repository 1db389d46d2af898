"""Reads and stores the prefixes that are worth sharing, in chunks so that running answers go on."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pylon.inference.batching.prefixes import LEAST_TOKENS, Prefix, PrefixStore, common_length, worth_sharing
from pylon.inference.engine import Message

# Recent prompts of a customer, to notice a shared prefix if prompts come one by one.
_RECENT_PROMPTS = 4
_RECENT_CUSTOMERS = 64


class Reader[State](Protocol):
    """A model that reads tokens into a sequence's state."""

    def prompt(self, messages: Sequence[Message], customer: str | None = None) -> list[int]:
        """The tokens of a chat, by the model's chat template. Raises PromptError.

        With a `customer`, work may be kept for the next prompts of the same customer.
        """

    def new_state(self) -> State:
        """The empty state of one sequence."""

    def copy_state(self, state: State) -> State:
        """A copy of a state, for another sequence that goes on from it."""

    def state_bytes(self, state: State, tokens: int) -> int:
        """The bytes of a state of so many tokens."""

    def read(self, tokens: list[int], state: State) -> None:
        """Reads tokens into `state`."""

    def drop(self, state: State) -> None:
        """Frees a state."""


@dataclass(slots=True, eq=False)
class _Build[State]:
    """A prefix that is being read: `done` of its tokens are in `state`."""

    customer: str | None
    tokens: list[int]
    state: State
    done: int = 0


class PrefixCache[State]:
    """The shared prefixes of one model, in `most_bytes` at most. `chunk` is the tokens that are read at a time."""

    def __init__(self, model: Reader[State], most_bytes: int, chunk: int) -> None:
        self._model = model
        self._chunk = chunk
        self._store: PrefixStore[State] = PrefixStore(most_bytes)
        self._recent: OrderedDict[str, deque[list[int]]] = OrderedDict()
        self._build: _Build[State] | None = None
        self.read = 0  # tokens, since the model was loaded
        self._read_template()

    def __len__(self) -> int:
        return len(self._store)

    @property
    def size(self) -> int:
        """The bytes of all stored prefixes."""
        return self._store.size

    def __contains__(self, prefix: Prefix[State]) -> bool:
        return prefix in self._store

    @property
    def held(self) -> int:
        """The tokens of all stored prefixes, and of the one that is being read."""
        return self._store.tokens + (len(self._build.tokens) if self._build else 0)

    def find(self, customer: str, tokens: Sequence[int]) -> Prefix[State] | None:
        """The longest stored prefix of this customer's prompt; None if there is none."""
        return self._store.find(customer, tokens)

    def clear(self) -> None:
        """Frees the prefixes of all customers."""
        for gone in self._store.clear():
            self._model.drop(gone.state)

    def begin(self, customer: str, prompt: list[int], others: Sequence[list[int]], most: int) -> bool:
        """Begins to read a prefix that `prompt` shares with `others` or recent prompts, if one is worth it.

        Returns whether one is. `most` is the most tokens that it may have.
        """
        base = self._store.find(customer, prompt)
        company = [*others, *self._recent.get(customer, ())]
        shared = worth_sharing(prompt, company, read=len(base.tokens) if base else 0)
        # A prefix that is too large to store would be read again and again.
        if not 0 < shared <= most:
            return False
        if base is None:
            self._build = _Build(customer, prompt[:shared], self._model.new_state())
        else:
            self._build = _Build(customer, prompt[:shared], self._model.copy_state(base.state), len(base.tokens))
        return True

    def advance(self) -> bool:
        """Reads one chunk of the prefix that was begun; False if there is none.

        The state ends exactly at its last token, because not every model's state can be trimmed.
        """
        build = self._build
        if build is None:
            return False
        end = min(build.done + self._chunk, len(build.tokens))
        self._model.read(build.tokens[build.done : end], build.state)
        self.read += end - build.done
        build.done = end
        if end == len(build.tokens):
            size = self._model.state_bytes(build.state, end)
            for gone in self._store.put(Prefix(build.customer, build.tokens, build.state, size)):
                self._model.drop(gone.state)
            self._build = None
        return True

    def remember(self, customer: str, prompt: list[int]) -> None:
        """Remembers a prompt that was started, to find prefixes that later ones share with it."""
        self._recent.setdefault(customer, deque(maxlen=_RECENT_PROMPTS)).append(prompt)
        self._recent.move_to_end(customer)
        if len(self._recent) > _RECENT_CUSTOMERS:
            self._recent.popitem(last=False)

    def _read_template(self) -> None:
        """Reads the beginning of the chat template, which holds no customer's words, so that all may share it."""
        one, other = (self._model.prompt([Message("user", text)]) for text in ("a", "0"))
        tokens = one[: common_length(one, other)]
        if len(tokens) >= LEAST_TOKENS:
            self._build = _Build(None, tokens, self._model.new_state())
            while self.advance():
                pass
