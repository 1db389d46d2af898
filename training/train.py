"""Train needle-1 on a CPU: one learning-rate schedule; the curriculum moves on when the answers are right."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from curriculum import DENSE, DENSE_SHARE, LAST_DENSE, LAST_NONE, STAGES, Data
from model import Config, Needle
from muon import Muon
from objective import Probes, loss_of
from tokenizers import Tokenizer

WARM_UP, FULL, CLOSING = 50, 0.55, 0.17
"""Steps of warm-up; the share of the first leg at full rate, before it falls in a straight line to zero; the rate
below which `none` weighs more."""

LEGS, AGAIN = (17.0e6, 22.5e6, 27.0e6), 0.4
"""Tokens at which a leg of training ends; from the second on the rate falls from AGAIN, over mostly dense steps."""

SAVE_S, LOG_S = 120, 15


UNTRAINED = {"loss": 3.0, "probe": 1.4, "text": 8.0, "exact": 0.0}


@dataclass
class Progress:
    """Where a run stands: kept in its checkpoint, so that a stopped run goes on as if it had not stopped."""

    step: int = 0
    level: int = 0
    tokens: int = 0
    seconds: float = 0.0
    means: dict[str, float] = field(default_factory=lambda: dict(UNTRAINED))

    def note(self, logged: dict[str, float]) -> None:
        """Average the figures of the present stage, and leave the stage when its answers are right."""
        self.means = {name: old + 0.04 * (logged[name] - old) for name, old in self.means.items()}
        if self.means["exact"] > STAGES[self.level].leave:
            self.level, self.means["exact"] = self.level + 1, 0.5


def rate(progress: Progress) -> float:
    """The learning rate's factor, 0 to 1."""
    for start, end in pairwise((0.0, *LEGS)):
        if progress.tokens < end:
            left = (end - progress.tokens) / (end - start)
            return AGAIN * left if start else min(1.0, (progress.step + 1) / WARM_UP, left / (1 - FULL))
    return 0.0


class Run:
    """A model, its optimizers, its data and its progress."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.path = args, args.out / "checkpoint.pt"
        tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
        self.config = Config(tokenizer.get_vocab_size())
        self.model, self.probes = Needle(self.config), Probes(self.config)
        named = list(self.model.named_parameters())
        matrices = [p for name, p in named if p.dim() == 2 and "embed" not in name]
        self.rest = [p for name, p in named if p.dim() != 2 or "embed" in name] + list(self.probes.parameters())
        adam = torch.optim.AdamW(self.rest, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0)
        self.optimizers: list[torch.optim.Optimizer] = [Muon(matrices, lr=0.02), adam]
        self.rates = [o.param_groups[0]["lr"] for o in self.optimizers]
        self.data = Data(tokenizer, args.seed)
        self.progress = Progress()
        if self.path.exists():
            self.load()

    def parts(self) -> dict[str, Any]:
        return {"probes": self.probes, "muon": self.optimizers[0], "adam": self.optimizers[1]}

    def save(self) -> None:
        state = {
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "progress": asdict(self.progress),
        }
        state |= {name: part.state_dict() for name, part in self.parts().items()}
        torch.save(state, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").rename(self.path)

    def load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.progress = Progress(**state["progress"])
        # Another stretch of the same stream: a resumed run must not see its first batches again.
        self.data.rng.seed(f"{self.args.seed} {self.progress.step}")

    def step(self) -> None:
        """One step at the present stage; most of the later ones are dense with near misses."""
        progress, rng = self.progress, self.data.rng
        factor = rate(progress)
        for optimizer, full in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * factor
        late = progress.tokens >= LEGS[0]
        if late or (factor < CLOSING and progress.level > 0):
            self.data.first_none = LAST_NONE
        dense = progress.level > 2 and rng.random() < (LAST_DENSE if late else DENSE_SHARE)
        stage = DENSE if dense else STAGES[progress.level]
        batch = self.data.batch(stage)
        loss, logged = loss_of(self.model, self.probes, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.rest, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        progress.step += 1
        progress.tokens += batch.ids.numel()
        if stage is not DENSE:
            progress.note(logged)

    def train(self) -> None:
        """Go on to the last step; log every few seconds, save every two minutes."""
        clock = saved = printed = time.monotonic()
        with (self.args.out / "log.jsonl").open("a") as log:
            while self.progress.tokens < LEGS[-1]:
                self.step()
                now = time.monotonic()
                self.progress.seconds += now - clock
                clock = now
                if now - printed > LOG_S:
                    printed = now
                    line = json.dumps({**asdict(self.progress), "rate": rate(self.progress)})
                    print(line, flush=True)
                    print(line, file=log, flush=True)
                if now - saved > SAVE_S:
                    saved = now
                    self.save()
        self.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; a run found there goes on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    run = Run(args)
    print(f"{sum(p.numel() for p in run.model.parameters()):,} parameters", flush=True)
    run.train()


if __name__ == "__main__":
    main()
