"""The text side of a GGUF file: its vocabulary, its chat template, and the text of growing answers."""

import codecs
import ctypes
import logging
from collections.abc import Sequence
from typing import Any

import llama_cpp
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from llguidance import LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab

from pylon.errors import ModelError, PromptError
from pylon.inference.engine import Message

# Otherwise llama.cpp logs at length what it finds in each file.
logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
_PIECE_BYTES = 256


class Vocabulary:
    """The vocabulary of a model. `model` is llama.cpp's handle, which must outlive this."""

    def __init__(self, model: Any) -> None:
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self._piece = ctypes.create_string_buffer(_PIECE_BYTES)
        self.size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self.ends = [token for token in range(self.size) if llama_cpp.llama_vocab_is_eog(self._vocabulary, token)]

    def tokens(self, text: str, *, opening: bool = False, special: bool = False) -> list[int]:
        """The tokens of a text. `opening` adds those that begin a text; `special` parses names of special tokens."""
        data = text.encode("utf-8", "replace")
        # No token is shorter than a byte; two may come in front and behind, and a blank in front.
        room = len(data) + 4
        found = (llama_cpp.llama_token * room)()
        number = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), found, room, opening, special)
        if number < 0:
            raise PromptError("this model cannot read the text")
        return list(found[:number])

    def piece(self, token: int, *, first: bool = False) -> bytes:
        """The bytes of a token, which need not be whole characters; for the `first` one without a leading blank."""
        buffer = self._piece
        size = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), int(first), False)
        if size < 0:  # which says how many bytes it has
            buffer = self._piece = ctypes.create_string_buffer(-size)
            size = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), int(first), False)
        return buffer.raw[:size]

    def name(self, token: int) -> str:
        """A special token as a chat template writes it; empty if the model has none."""
        return llama_cpp.llama_vocab_get_text(self._vocabulary, token).decode() if token >= 0 else ""

    @property
    def begin(self) -> int:
        return int(llama_cpp.llama_vocab_bos(self._vocabulary))

    @property
    def end(self) -> int:
        return int(llama_cpp.llama_vocab_eos(self._vocabulary))

    def for_schemas(self) -> LLTokenizer:
        """The vocabulary for llguidance, which takes seconds for a large one."""
        return lltokenizer_from_vocab(self._vocabulary, eos_token=self.ends or None)


class Chat:
    """The chat template of a model. Without one, the messages are used as they are."""

    def __init__(self, model: Any, vocabulary: Vocabulary) -> None:
        """Raises ModelError."""
        self._vocabulary = vocabulary
        template = llama_cpp.llama_model_chat_template(model, None)
        try:
            self._format = (
                Jinja2ChatFormatter(
                    template.decode(),
                    eos_token=vocabulary.name(vocabulary.end),
                    bos_token=vocabulary.name(vocabulary.begin),
                )
                if template
                else None
            )
        except Exception as error:  # a template is a program, and may fail in any way
            raise ModelError(f"the model's chat template cannot be read ({type(error).__name__})") from error

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """Raises PromptError."""
        if self._format is None:
            return self._vocabulary.tokens("\n\n".join(message.content for message in messages), opening=True)
        turns: Any = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._format(messages=turns).prompt
        except Exception as error:  # templates refuse roles and orders with their own errors
            raise PromptError(
                "this model's chat template does not take these messages",
                hint="Use at most one system message, first, then user and assistant in turn.",
            ) from error
        return self._vocabulary.tokens(text, special=True)


class StreamedText:
    """See `answer.Detokenizer`: a character whose bytes are spread over tokens comes with the last of them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = True
        self.text = ""

    def add_token(self, token: int) -> None:
        self.text += self._decoder.decode(self._vocabulary.piece(token, first=self._first))
        self._first = False

    def finalize(self) -> None:
        self.text += self._decoder.decode(b"", final=True)
