"""Reads `pylon.json`, an object beside a model's weights that tells Pylon about it. Most models have none.

{"max_completion_tokens": 12}
"""

from dataclasses import dataclass
from pathlib import Path

import orjson

from pylon.errors import ModelError
from pylon.inference.models.weights import GGUF

FILE = "pylon.json"
_FIELD = "max_completion_tokens"
# An announcement holds numbers of up to nine digits.
_MOST_TOKENS = 10**9 - 1
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Description:
    """What `pylon.json` says. `max_completion_tokens` is the longest answer that the model is made for; 0 without it.

    Beyond it a model that was trained for short answers writes on without end or sense.
    """

    max_completion_tokens: int = 0


def describe(model: Path) -> Description:
    """The description of a model, given its folder or its GGUF file.

    For a GGUF file it is in the folder of the same name beside it, or else in the folder of the file. Raises
    ModelError if it cannot be read.
    """
    places = (model.with_suffix(""), model.parent) if model.suffix == GGUF else (model,)
    file = next((place / FILE for place in places if (place / FILE).is_file()), None)
    if file is None:
        return Description()
    hint = f'Write {{"{_FIELD}": 256}} with a number of its own into it, or delete it.'
    try:
        with file.open("rb") as stream:
            said = orjson.loads(stream.read(_MOST_BYTES))
    except (OSError, orjson.JSONDecodeError) as error:
        raise ModelError(
            f"the model's description {file} cannot be read ({type(error).__name__})", hint=hint
        ) from None
    tokens = said.get(_FIELD) if isinstance(said, dict) and len(said) == 1 else None
    if type(tokens) is not int or not 1 <= tokens <= _MOST_TOKENS:
        raise ModelError(
            f"the model's description {file} is not an object whose one field, {_FIELD}, is a number of 1 or more",
            hint=hint,
        )
    return Description(tokens)
