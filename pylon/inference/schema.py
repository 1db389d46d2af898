"""Answers that follow a JSON schema: at each token, what would break the schema cannot be drawn.

By llguidance, as a logits processor: one for each request, so that such answers run in a batch beside others.
"""

from typing import Any, cast

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from pylon.errors import ParameterError

# Between tokens of JSON: enough to lay it out, too few to spend an answer on.
_BLANKS = r"[ \n]{0,20}"


class SchemaCompiler:
    """Turns schemas into guides for one tokenizer, which it reads when the first schema comes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._reader: LLTokenizer | None = None

    def guide(self, schema: str, prompt_tokens: int) -> "SchemaGuide":
        """Raises ParameterError for what is no JSON schema, or one that llguidance cannot follow."""
        if self._reader is None:
            self._reader = from_tokenizer(self._tokenizer._tokenizer, eos_token=sorted(self._tokenizer.eos_token_ids))
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": _BLANKS})
        except ValueError as error:
            raise ParameterError(f"The JSON schema is no JSON object: {str(error)[:300]}") from None
        matcher = LLMatcher(self._reader, grammar, log_level=0)
        if matcher.is_error():
            raise ParameterError(f"The JSON schema cannot be followed: {matcher.get_error()[:300]}")
        return SchemaGuide(matcher, prompt_tokens, frozenset(self._tokenizer.eos_token_ids))


class SchemaGuide:
    """A logits processor for one answer."""

    def __init__(self, matcher: LLMatcher, prompt_tokens: int, ends: frozenset[int]) -> None:
        self._matcher = matcher
        self._read = prompt_tokens
        self._ends = ends
        self._ended = False

    @property
    def fault(self) -> str:
        """Why the schema could not be followed to the answer's end (its grammar grew too large), or empty."""
        return self._matcher.get_error()

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """`tokens` holds prompt and answer so far, `logits` one row for the next token."""
        new = cast("list[int]", tokens[self._read :].tolist()) if tokens.size > self._read else []
        self._read = tokens.size
        # The generator computes one token ahead of what is read, so also one behind the end.
        self._ended = self._ended or not self._ends.isdisjoint(new)
        if self._ended:
            return logits
        self._matcher.consume_tokens(new)
        if self._matcher.is_error():
            return logits
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        # A network's output is often wider than its vocabulary.
        allowed = np.zeros(logits.shape[-1], dtype=bool)
        width = min(bits.size, allowed.size)
        allowed[:width] = bits[:width]
        return mx.where(mx.array(allowed), logits, -mx.inf)
