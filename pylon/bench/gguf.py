"""Counts tokens with the vocabulary of a GGUF model."""

import os
from collections.abc import Callable
from pathlib import Path

from pylon.errors import ModelError


def gguf_counter(file: Path) -> Callable[[str], int]:
    """A function that counts the tokens of a text. Loads only the vocabulary of the file. Raises ModelError."""
    try:
        import llama_cpp

        from pylon.inference.llama.text import Vocabulary
    except ModuleNotFoundError:
        raise ModelError("llama.cpp is not built", hint="`./scripts/setup --llama` builds it.") from None
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(os.fsencode(file), params)
    if not model:
        raise ModelError(f"{file} does not load")
    vocabulary = Vocabulary(model)
    return lambda text: len(vocabulary.tokens(text))
