"""Train the tokenizer: byte-level BPE of 5,120 entries on the corpus, every digit a token of its own.

Words that questions, statements and the package's own keys are made of are one token each, so a key like amber-falcon
is two: ` amber` and `-falcon`. Other words are cut up as the corpus has it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import corpus
from shared import needle, tasks
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB = 5120
REPEATS = 1000
"""How often the words that must be one token are added to the corpus: more than its rarest merges occur."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# The split that llama.cpp calls "qwen2": words with the sign before them, single digits, runs of other signs.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train(docs: list[str]) -> Tokenizer:
    """The tokenizer of these documents; the same documents give the same one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[AddedToken(name, special=True) for name in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    wanted = [*needle.QUESTIONS, *tasks.STATEMENTS, needle.INSTRUCTION, needle.ABSENT]
    wanted += [f" {word}-{word}" for word in tasks.WORDS]
    tokenizer.train_from_iterator([*docs, *wanted * REPEATS], trainer)
    vocab = tokenizer.get_vocab()
    assert all(sign + word in vocab for word in tasks.WORDS for sign in ("\u0120", "-")), "a key's word is cut up"
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja as transformers and mlx_lm read them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)


if __name__ == "__main__":
    save(train(corpus.documents()), Path(sys.argv[1]))
