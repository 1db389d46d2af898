"""Makes answers follow a JSON schema: tokens that would break it cannot be drawn.

Uses llguidance, with a guide for each request, so that such answers can share a batch with others.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from pylon.errors import ParameterError
from pylon.inference.schema import bounds, trial

# Schemas that are kept compiled, since a run uses the same one again and again.
_REMEMBERED = 16


class SchemaCompiler:
    """Compiles schemas into guides for one vocabulary, which is opened for the first schema.

    `ends` are the tokens that end an answer.
    """

    def __init__(self, open_vocabulary: Callable[[], LLTokenizer], ends: Iterable[int]) -> None:
        self._open = open_vocabulary
        self._vocabulary: LLTokenizer | None = None
        self._ends = frozenset(ends)
        self._known: OrderedDict[str, LLMatcher | str] = OrderedDict()  # the result of each, or why it failed

    def guide(self, schema: str) -> "SchemaGuide":
        """A guide for a schema; takes seconds at most. Raises ParameterError if it is none, or cannot be followed."""
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
            return "the JSON schema cannot be followed: it takes too long to compile, or too much memory"
        if self._vocabulary is None:
            self._vocabulary = self._open()
        try:
            matcher = trial.compiled(self._vocabulary, schema)
        except ValueError as error:
            return f"the JSON schema is no JSON object: {str(error)[:300]}"
        return f"the JSON schema cannot be followed: {matcher.get_error()[:300]}" if matcher.is_error() else matcher


class SchemaGuide:
    """Follows one answer, and says which tokens may come next."""

    def __init__(self, compiled: LLMatcher, ends: frozenset[int]) -> None:
        self._compiled = compiled
        self._matcher = compiled.deep_copy()
        self._ends = ends
        self._ended = False

    def again(self) -> "SchemaGuide":
        """A new guide for the same schema, without compiling it again."""
        return SchemaGuide(self._compiled, self._ends)

    @property
    def fault(self) -> str:
        """Why the schema could not be followed to the answer's end (its grammar grew too large), or empty."""
        return self._matcher.get_error()

    def allowed(self, new: Sequence[int], width: int) -> NDArray[np.bool_] | None:
        """Which of `width` tokens may follow the `new` ones of the answer; None once it has ended or failed."""
        # The engine may compute one token ahead, so also one after the end.
        self._ended = self._ended or not self._ends.isdisjoint(new)
        if self._ended:
            return None
        self._matcher.consume_tokens(list(new))
        if self._matcher.is_error():
            return None
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        # The output of a network is often wider than its vocabulary.
        allowed = np.zeros(width, dtype=np.bool_)
        known = min(bits.size, width)
        allowed[:known] = bits[:known]
        return allowed
