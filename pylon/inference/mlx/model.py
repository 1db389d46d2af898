"""A loaded MLX model: loads its folder, tokenizes chats, and makes samplers of sampling settings."""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np
from llguidance.hf import from_tokenizer
from mlx.utils import tree_flatten
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import make_sampler
from numpy.typing import NDArray

from pylon.errors import ModelError, PromptError
from pylon.host.memory import free_bytes, total_bytes
from pylon.inference.batching.answer import Detokenizer
from pylon.inference.engine import EngineSpec, Message, ModelInfo, Sampling
from pylon.inference.memory import MemoryPlan, check_weights, memory_limit
from pylon.inference.mlx.tokenizing import CachingTokenizer
from pylon.inference.models.description import describe
from pylon.inference.models.weights import weight_files, weights_sha256
from pylon.inference.schema.guide import SchemaCompiler, SchemaGuide

# Tokens by which mlx_lm's key-value states grow.
_STATE_STEP = 256
# The context of models whose files do not tell it.
_CONTEXT_TOKENS = 4096

Sampler = Callable[[mx.array], mx.array]
# From the tokens of an answer so far, and the logits of its next one.
LogitsProcessor = Callable[[mx.array, mx.array], mx.array]


@dataclass(frozen=True, slots=True)
class MlxModel:
    """A loaded model: implements `interfaces.Model`. The state of a sequence is one cache of mlx_lm per layer."""

    info: ModelInfo
    network: Any
    tokenizer: Any
    memory: MemoryPlan
    schemas: SchemaCompiler
    caching: CachingTokenizer | None  # where the tokenizer is of the `tokenizers` library

    @classmethod
    def load(cls, spec: EngineSpec) -> "MlxModel":
        """Loads a model. Raises ModelError, NoRoomError."""
        if spec.model_dir is None:
            raise ModelError(f"the folder of the model {spec.model} is not set")
        size = sum(file.stat().st_size for file in weight_files(spec.model_dir))
        limit, most = (memory_limit(room(), _accelerator_bytes(), spec.memory) for room in (free_bytes, total_bytes))
        check_weights(size, limit, most, spec.model)
        longest = describe(spec.model_dir).max_completion_tokens
        sha256 = weights_sha256(spec.model_dir, spec.hash_cache)
        try:
            network, tokenizer, config = load(str(spec.model_dir), return_config=True)
        except Exception as error:  # mlx_lm, transformers and safetensors raise what they like on broken files
            raise ModelError(
                f"the files of the model {spec.model} cannot be loaded ({type(error).__name__}: {error})",
                hint="Download the model again, or choose one that mlx-lm supports.",
            ) from error
        info = ModelInfo(spec.model, sha256, _quantization(network, config), _context(config), "mlx", longest)
        ends = sorted(tokenizer.eos_token_ids)
        schemas = SchemaCompiler(lambda: from_tokenizer(tokenizer._tokenizer, eos_token=ends), ends)
        caching = CachingTokenizer(tokenizer.backend_tokenizer) if hasattr(tokenizer, "backend_tokenizer") else None
        return cls(info, network, tokenizer, _plan(network, limit), schemas, caching)

    def prompt(self, messages: Sequence[Message], customer: str | None = None) -> list[int]:
        """See `Reader`."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        if not self.tokenizer.has_chat_template:
            return list(self.tokenizer.encode("\n\n".join(message.content for message in messages)))
        try:
            if self.caching is None:
                return list(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True))
            text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            return self.caching.tokens_of(text, customer)
        except Exception as error:  # templates are programs: they refuse roles and orders with their own errors
            raise PromptError(
                "this model's chat template does not take these messages",
                hint="Use at most one system message, first, then user and assistant in turn.",
            ) from error

    def answer_tokens(self, text: str) -> list[int]:
        """The tokens with which the model would write this text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def stop_tokens(self) -> list[int]:
        return sorted(self.tokenizer.eos_token_ids)

    def detokenizer(self) -> Detokenizer:
        detokenizer: Detokenizer = self.tokenizer.detokenizer
        return detokenizer

    def new_state(self) -> list[Any]:
        """The empty key-value (or other) state of one sequence."""
        state: list[Any] = make_prompt_cache(self.network)
        return state

    def copy_state(self, state: list[Any]) -> list[Any]:
        return copy.deepcopy(state)

    def state_bytes(self, state: list[Any], tokens: int) -> int:  # noqa: ARG002 - it says so itself
        return sum(layer.nbytes for layer in state)

    def drop(self, state: list[Any]) -> None:
        """Does nothing: MLX frees what is no longer referred to."""

    def read(self, tokens: list[int], state: list[Any]) -> None:
        """Reads tokens into `state`."""
        self.network(mx.array(tokens)[None], cache=state)
        mx.eval([layer.state for layer in state])

    def logits(self, tokens: list[int], state: list[Any]) -> NDArray[np.float32]:
        """Reads tokens; returns for each the logits of the token after it."""
        return np.array(self.network(mx.array(tokens)[None], cache=state)[0].astype(mx.float32))

    def longest_prefix(self, room: int) -> int:
        """The most tokens of a shared prefix that fit into so many bytes."""
        memory = self.memory
        room -= memory.per_row
        if room < 0:
            return 0
        return room // memory.per_token // _STATE_STEP * _STATE_STEP if memory.per_token else 2**63


def greedy(logits: mx.array) -> mx.array:
    """The likeliest token of each row."""
    return mx.argmax(logits, axis=-1)


# Rows of a batch are sampled in one go only when they share the sampler object.
@functools.lru_cache(maxsize=64)
def drawing(temperature: float, top_p: float, top_k: int) -> Sampler:
    """Takes logits, a row for each token to be drawn; for what is not greedy, see `Sampling`."""
    draw: Sampler = make_sampler(temp=temperature, top_p=top_p, top_k=top_k)
    return lambda logits: draw(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


def logits_processors(sampling: Sampling) -> list[LogitsProcessor]:
    """The processors for the penalties of these settings; empty if there are none."""
    if not sampling.frequency_penalty:
        return []

    def frequency_penalty(answered: mx.array, logits: mx.array) -> mx.array:
        # OpenAI's parameter counts the answer only; mlx_lm's own processor would count the prompt's tail too.
        return logits.at[:, answered].subtract(sampling.frequency_penalty) if answered.size else logits

    return [frequency_penalty]


def schema_processor(guide: SchemaGuide) -> LogitsProcessor:
    """Lets nothing be drawn that would break the schema."""
    read = 0

    def follow(answered: mx.array, logits: mx.array) -> mx.array:
        nonlocal read
        new = cast("list[int]", answered[read:].tolist()) if answered.size > read else []
        read = answered.size
        allowed = guide.allowed(new, logits.shape[-1])
        return logits if allowed is None else mx.where(mx.array(allowed), logits, -mx.inf)

    return follow


def _accelerator_bytes() -> int | None:
    """The most that macOS advises to give to the GPU; None where there is none."""
    if not mx.metal.is_available():
        return None
    size = mx.device_info().get("max_recommended_working_set_size")
    return int(size) if size else None


def _plan(network: Any, limit: int) -> MemoryPlan:
    """Sizes are read off the state of one token: architectures keep more than keys and values."""
    state = make_prompt_cache(network)
    network(mx.array([[0]]), cache=state)
    layers = [part for layer in state for part in getattr(layer, "caches", (layer,))]
    mx.eval([layer.state for layer in layers])
    per_token = per_row = 0
    for layer in layers:
        keys = getattr(layer, "keys", None)
        if keys is None:
            per_row += layer.nbytes
        else:
            per_token += layer.nbytes // keys.shape[2]  # which has room for more than that one token
    weights = sum(int(weight.nbytes) for _, weight in tree_flatten(network.parameters()))
    return MemoryPlan(limit, weights, per_token, per_row)


def _quantization(network: Any, config: dict[str, Any]) -> str:
    """Such as `4bit`; a model that is not quantized is named by its weights' type, such as `bfloat16`."""
    quantization = config.get("quantization")
    if isinstance(quantization, dict) and "bits" in quantization:
        return f"{quantization['bits']}bit"
    largest = max((weight for _, weight in tree_flatten(network.parameters())), key=lambda weight: weight.size)
    return str(largest.dtype).removeprefix("mlx.core.")


def _context(config: dict[str, Any]) -> int:
    for place in (config, config.get("text_config", {})):
        if isinstance(context := place.get("max_position_embeddings"), int):
            return context
    return _CONTEXT_TOKENS
