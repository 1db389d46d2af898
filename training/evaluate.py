"""How good is a checkpoint? Many held-out questions at once, in PyTorch; `pylon models verify` asks the exports.

Same generator and same text as there. Answers are compared token by token with the right ones given so far, which is
right in every token exactly when greedy generation is.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from curriculum import DIALOGUE
from export import load
from model import Needle
from shared import needle, tasks
from tokenizers import Tokenizer

LENGTHS = (64, 128, 256, 384, 512, 640)
BATCH = 24


def questions(tokenizer: Tokenizer, seed: int, n: int, *, present: bool) -> list[tuple[int, list[int], list[int]]]:
    """`n` tasks in turn over all lengths: the length step, the prompt's tokens, the answer's tokens."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    made = []
    for i in range(n):
        length = LENGTHS[i % len(LENGTHS)]
        task = tasks.sized(
            f"{seed} {present} {i}", text, lambda part: len(tokenizer.encode(part).ids), length, present=present,
            phrasing=i // len(LENGTHS) % len(needle.QUESTIONS), decile=7 * i % 10 if present else None,
        )  # fmt: skip
        prompt = DIALOGUE.format(needle.prompt(task.question, task.chunk))
        made.append((length, tokenizer.encode(prompt).ids, tokenizer.encode(f"{task.answer}<|im_end|>").ids))
    return made


@torch.no_grad()
def right(model: Needle, asked: list[tuple[int, list[int], list[int]]]) -> list[bool]:
    """Whether every token of each answer is the likeliest one."""
    out = [False] * len(asked)
    order = sorted(range(len(asked)), key=lambda i: len(asked[i][1]))
    for at in range(0, len(order), BATCH):
        some = order[at : at + BATCH]
        rows = [asked[i][1] + asked[i][2] for i in some]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for k, row in enumerate(rows):
            ids[k, : len(row)] = torch.tensor(row)
        hidden = model(ids)
        for k, i in enumerate(some):
            _, prompt, answer = asked[i]
            said = model.logits(hidden[k, len(prompt) - 1 : len(prompt) - 1 + len(answer)]).argmax(-1)
            out[i] = said.tolist() == answer
    return out


def report(model: Needle, tokenizer: Tokenizer, seed: int, present: int, absent: int) -> dict[str, Any]:
    """Shares of right answers: all present, by length, all absent."""
    asked = questions(tokenizer, seed, present, present=True)
    found = right(model, asked)
    by_length: dict[int, list[bool]] = defaultdict(list)
    for (length, *_), ok in zip(asked, found, strict=True):
        by_length[length].append(ok)
    refused = right(model, questions(tokenizer, seed, absent, present=False))
    return {
        "present": round(sum(found) / present, 4),
        "by_length": {n: round(sum(oks) / len(oks), 4) for n, oks in by_length.items()},
        "absent": round(sum(refused) / absent, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--present", type=int, default=240)
    parser.add_argument("--absent", type=int, default=600)
    parser.add_argument("--least", type=float, default=0.0, help="fail where either share is below this")
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    made = report(load(args.checkpoint), tokenizer, args.seed, args.present, args.absent)
    print(json.dumps(made))
    if min(made["present"], made["absent"]) < args.least:
        raise SystemExit(f"not good enough: {args.least} is asked for")


if __name__ == "__main__":
    main()
