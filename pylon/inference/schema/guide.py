"""Answers that follow a JSON schema: at each token, what would break the schema cannot be drawn.

By llguidance, a guide for each request, so that such answers run in a batch beside others.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from pylon.errors import ParameterError
from pylon.inference.schema import bounds, trial

# A run asks with the same schema again and again.
_REMEMBERED = 16


class SchemaCompiler:
    """Turns schemas into guides for one vocabulary, which is opened when the first schema comes.

    `ends` are the tokens that end an answer.
    """

    def __init__(self, open_vocabulary: Callable[[], LLTokenizer], ends: Iterable[int]) -> None:
        self._open = open_vocabulary
        self._vocabulary: LLTokenizer | None = None
        self._ends = frozenset(ends)
        self._known: OrderedDict[str, LLMatcher | str] = OrderedDict()  # what came of each, or why nothing did

    def guide(self, schema: str) -> "SchemaGuide":
        """Takes seconds at the most. Raises ParameterError for what is no JSON schema, or cannot be followed here."""
        bounds.check(schema)
        known = self._known.get(schema)
        if known is None:
            known = self._known[schema] = self._compiled(schema)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(schema)
        if isinstance(known, str):
            raise ParameterError(known)
        return SchemaGuide(known, self._ends)

    def _compiled(self, schema: str) -> LLMatcher | str:
        if not trial.ends(schema):
            return "The JSON schema cannot be followed: it takes too long to compile, or too much memory."
        if self._vocabulary is None:
            self._vocabulary = self._open()
        try:
            matcher = trial.compiled(self._vocabulary, schema)
        except ValueError as error:
            return f"The JSON schema is no JSON object: {str(error)[:300]}"
        return f"The JSON schema cannot be followed: {matcher.get_error()[:300]}" if matcher.is_error() else matcher


class SchemaGuide:
    """Follows one answer."""

    def __init__(self, compiled: LLMatcher, ends: frozenset[int]) -> None:
        self._compiled = compiled
        self._matcher = compiled.deep_copy()
        self._ends = ends
        self._ended = False

    def again(self) -> "SchemaGuide":
        """One for the same schema, from an answer's first token; compiles nothing."""
        return SchemaGuide(self._compiled, self._ends)

    @property
    def fault(self) -> str:
        """Why the schema could not be followed to the answer's end (its grammar grew too large), or empty."""
        return self._matcher.get_error()

    def allowed(self, new: Sequence[int], width: int) -> NDArray[np.bool_] | None:
        """Which of `width` tokens may come behind the `new` ones; None when it makes no difference any more."""
        # A generator may compute one token ahead of what is read, so also one behind the end.
        self._ended = self._ended or not self._ends.isdisjoint(new)
        if self._ended:
            return None
        self._matcher.consume_tokens(list(new))
        if self._matcher.is_error():
            return None
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        # A network's output is often wider than its vocabulary.
        allowed = np.zeros(width, dtype=np.bool_)
        known = min(bits.size, width)
        allowed[:known] = bits[:known]
        return allowed
