"""A model of about five million random weights, to measure engines with: Llama's layout and needle-1's tokenizer.

It never ends an answer by itself, and its cache can be trimmed to any length, which needle-1's cannot.
"""

import json
import shutil
import sys
from pathlib import Path

from pylon.inference.models import needle
from pylon.inference.models.weights import PACKAGED

MODEL_ID = "random-5m"
_CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "eos_token_id": 2,
}


def make(directory: Path) -> int:
    """Writes the model into `directory`; returns how many weights it has."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs

    directory.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(PACKAGED / needle.MODEL_ID / name, directory / name)
    # The vocabulary size of that tokenizer: an id beyond the embedding would read arbitrary memory.
    vocabulary = json.loads((PACKAGED / needle.MODEL_ID / "config.json").read_text())["vocab_size"]
    config = _CONFIG | {"vocab_size": vocabulary}
    (directory / "config.json").write_text(json.dumps(config))
    mx.random.seed(1)
    weights = {
        name: mx.ones(value.shape) if value.ndim == 1 else mx.random.normal(value.shape) * 0.05
        for name, value in tree_flatten(Model(ModelArgs.from_dict(config)).parameters())
    }
    mx.save_safetensors(str(directory / "model.safetensors"), weights, metadata={"format": "mlx"})
    return sum(value.size for value in weights.values())


if __name__ == "__main__":
    sys.stdout.write(f"{make(Path(sys.argv[1]))}\n")
