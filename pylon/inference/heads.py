"""Reading shared heads: which one is worth it, chunk by chunk so that running answers go on, and keeping it."""

import copy
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pylon.inference.mlx_model import MlxModel
from pylon.inference.prefixes import LEAST_TOKENS, Prefix, PrefixStore, worth_sharing

type Head = Prefix[list[Any]]

# Prompts remembered to see that a customer's next one has the same head, when they come one by one.
_RECENT_PROMPTS = 4
_RECENT_CUSTOMERS = 64


@dataclass(slots=True, eq=False)
class _Build:
    """A head on its way: `done` of its tokens are in `state`."""

    customer: str | None
    tokens: list[int]
    state: list[Any]
    done: int = 0


class Heads:
    """The heads of one model. `chunk` is how many tokens are read at a time."""

    def __init__(self, model: MlxModel, chunk: int) -> None:
        self._model = model
        self._chunk = chunk
        self._store: PrefixStore[list[Any]] = PrefixStore(model.memory.prefix_bytes)
        self._recent: OrderedDict[str, deque[list[int]]] = OrderedDict()
        self._build: _Build | None = None
        self.read = 0  # tokens, since the model was loaded
        self._read_template()

    def __len__(self) -> int:
        return len(self._store)

    @property
    def size(self) -> int:
        """In bytes."""
        return self._store.size

    def find(self, customer: str, tokens: Sequence[int]) -> Head | None:
        """The longest that this customer's prompt begins with."""
        return self._store.find(customer, tokens)

    def clear(self) -> None:
        """Gives their memory back."""
        self._store.clear()

    def begin(self, customer: str, prompt: list[int], others: Sequence[list[int]]) -> bool:
        """Whether a head that `prompt` shares with `others`, or with recent prompts, is worth reading first."""
        base = self._store.find(customer, prompt)
        company = [*others, *self._recent.get(customer, ())]
        shared = worth_sharing(prompt, company, read=len(base.tokens) if base else 0)
        if not shared:
            return False
        if base is None:
            self._build = _Build(customer, prompt[:shared], self._model.new_state())
        else:
            self._build = _Build(customer, prompt[:shared], copy.deepcopy(base.state), len(base.tokens))
        return True

    def advance(self) -> bool:
        """Reads one chunk of the head on its way; False when there is none.

        The state ends exactly at the head's last token: not every model's state can be trimmed.
        """
        build = self._build
        if build is None:
            return False
        end = min(build.done + self._chunk, len(build.tokens))
        self._model.read(build.tokens[build.done : end], build.state)
        self.read += end - build.done
        build.done = end
        if end == len(build.tokens):
            size = sum(layer.nbytes for layer in build.state)
            self._store.put(Prefix(build.customer, build.tokens, build.state, size))
            self._build = None
        return True

    def remember(self, customer: str, prompt: list[int]) -> None:
        """A prompt that was started; later ones may share its head."""
        self._recent.setdefault(customer, deque(maxlen=_RECENT_PROMPTS)).append(prompt)
        self._recent.move_to_end(customer)
        if len(self._recent) > _RECENT_CUSTOMERS:
            self._recent.popitem(last=False)

    def _read_template(self) -> None:
        """What stands in front of every chat holds no customer's words, so all may share it."""
        tokens = self._model.template()
        if len(tokens) >= LEAST_TOKENS:
            self._build = _Build(None, tokens, self._model.new_state())
            while self.advance():
                pass
