"""Write a checkpoint as stock programs read it: a Hugging Face directory for mlx_lm, a GGUF file for llama.cpp."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from model import Config, Needle
from safetensors.numpy import save_file
from tokenizer import SPECIAL, TEMPLATE

from pylon.inference.models import needle

GGUF_NAMES = {
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    "conv.conv": "shortconv.conv",
}


def load(path: Path) -> Needle:
    """The model of a checkpoint, on the CPU."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = Needle(Config(**saved["config"]))
    model.load_state_dict(saved["model"])
    return model.eval()


def hub_config(c: Config) -> dict[str, object]:
    """config.json of an LFM2 model."""
    return {
        "architectures": ["Lfm2ForCausalLM"],
        "model_type": "lfm2",
        "vocab_size": c.vocab,
        "hidden_size": c.width,
        "num_hidden_layers": len(c.layout),
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.heads,
        "max_position_embeddings": c.window,
        "norm_eps": c.eps,
        "conv_bias": False,
        "conv_L_cache": c.kernel,
        "block_dim": c.width,
        "block_ff_dim": c.hidden,
        "block_multiple_of": 1,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "intermediate_size": c.hidden,
        "rope_theta": c.theta,
        "layer_types": ["full_attention" if kind == "a" else "conv" for kind in c.layout],
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "eos_token_id": SPECIAL.index("<|im_end|>"),
        "pad_token_id": SPECIAL.index("<|endoftext|>"),
    }


def write_hub(model: Needle, tokenizer: Path, out: Path) -> None:
    """config.json, model.safetensors (float32), the tokenizer's files, and what Pylon is told of it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(hub_config(model.config), indent=2) + "\n")
    generation = {"eos_token_id": SPECIAL.index("<|im_end|>"), "do_sample": False}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    longest = {"max_completion_tokens": needle.ANSWER_TOKENS}
    (out / "pylon.json").write_text(json.dumps(longest, indent=2) + "\n")
    weights = {f"model.{name}": np.ascontiguousarray(p.numpy()) for name, p in model.state_dict().items()}
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tokenizer / name, out / name)


def write_gguf(model: Needle, tokenizer: Path, out: Path) -> None:
    """The same weights, float32, under llama.cpp's names."""
    c = model.config
    writer = gguf.GGUFWriter(str(out), "lfm2")
    writer.add_name("needle-1")
    writer.add_context_length(c.window)
    writer.add_embedding_length(c.width)
    writer.add_block_count(len(c.layout))
    writer.add_feed_forward_length(c.hidden)
    writer.add_head_count(c.heads)
    # Zero heads of keys and values is how llama.cpp knows a convolution layer.
    writer.add_head_count_kv([c.heads if kind == "a" else 0 for kind in c.layout])
    writer.add_layer_norm_rms_eps(c.eps)
    writer.add_rope_freq_base(c.theta)
    writer.add_shortconv_l_cache(c.kernel)
    writer.add_vocab_size(c.vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, json.loads((tokenizer / "tokenizer.json").read_text()))
    for name, p in model.state_dict().items():
        writer.add_tensor(_gguf_name(name), np.ascontiguousarray(p.squeeze(1).numpy() if p.dim() == 3 else p.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, spec: dict) -> None:
    vocab = spec["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.__getitem__)
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in spec["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_pad_token_id(SPECIAL.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _gguf_name(name: str) -> str:
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "embedding_norm.weight":
        return "token_embd_norm.weight"
    _, block, rest = name.split(".", 2)
    return f"blk.{block}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="without one, random weights of the default sizes")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder that gets needle-1/ and needle-1.gguf")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = load(args.checkpoint) if args.checkpoint else Needle(Config()).eval()
    with torch.no_grad():
        write_hub(model, args.tokenizer, args.out / "needle-1")
        write_gguf(model, args.tokenizer, args.out / "needle-1.gguf")


if __name__ == "__main__":
    main()
