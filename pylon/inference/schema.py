"""Answers that follow a JSON schema: at each token, what would break the schema cannot be drawn.

By llguidance, a guide for each request, so that such answers run in a batch beside others.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from pylon.errors import ParameterError

# Between tokens of JSON: enough to lay it out, too few to spend an answer on.
_BLANKS = r"[ \n]{0,20}"


class SchemaCompiler:
    """Turns schemas into guides for one vocabulary, which is opened when the first schema comes."""

    def __init__(self, open_vocabulary: Callable[[], LLTokenizer], ends: Iterable[int]) -> None:
        self._open = open_vocabulary
        self._vocabulary: LLTokenizer | None = None
        self._ends = frozenset(ends)

    def guide(self, schema: str) -> "SchemaGuide":
        """Raises ParameterError for what is no JSON schema, or one that llguidance cannot follow."""
        if self._vocabulary is None:
            self._vocabulary = self._open()
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": _BLANKS})
        except ValueError as error:
            raise ParameterError(f"The JSON schema is no JSON object: {str(error)[:300]}") from None
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise ParameterError(f"The JSON schema cannot be followed: {matcher.get_error()[:300]}")
        return SchemaGuide(matcher, self._ends)


class SchemaGuide:
    """Follows one answer."""

    def __init__(self, matcher: LLMatcher, ends: frozenset[int]) -> None:
        self._matcher = matcher
        self._ends = ends
        self._ended = False

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
