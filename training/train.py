"""Train needle-1: one learning-rate schedule; the curriculum moves on when the answers are right."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
from curriculum import FIRST_NONE, LAST_NONE, STAGES, Batch, Data
from model import Config, Needle
from muon import Muon
from objective import Probes, loss_of
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

TOKENS = 47_500_000
WARM_UP, FULL, CLOSING = 50, 0.4, 0.17
"""Steps of warm-up; the share of the run at full rate, before it falls in a straight line to zero; the rate below
which `none` weighs more."""

SAVE_S, LOG_S = 120, 15

UNTRAINED = {"loss": 3.0, "probe": 1.4, "text": 8.0, "exact": 0.0}


@dataclass
class Progress:
    """Where a run stands: kept in its checkpoint, so that a stopped run goes on from there, with other batches."""

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


def rate(progress: Progress, tokens: int) -> float:
    """The learning rate's factor, 0 to 1."""
    return min(1.0, (progress.step + 1) / WARM_UP, max(0.0, 1 - progress.tokens / tokens) / (1 - FULL))


class Run:
    """A model, its optimizers, its data and its progress."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.path, self.device = args, args.out / "checkpoint.pt", torch.device(args.device)
        tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
        self.config = Config(tokenizer.get_vocab_size())
        # Made on the CPU, so that a seed begins with the same weights wherever it is trained.
        self.model, self.probes = Needle(self.config).to(self.device), Probes(self.config).to(self.device)
        named = list(self.model.named_parameters())
        matrices = [p for name, p in named if p.dim() == 2 and "embed" not in name]
        self.rest = [p for name, p in named if p.dim() != 2 or "embed" in name] + list(self.probes.parameters())
        adam = torch.optim.Adam(self.rest, lr=3e-3, betas=(0.9, 0.98))
        self.optimizers: list[torch.optim.Optimizer] = [Muon(matrices, lr=0.02), adam]
        self.rates = [o.param_groups[0]["lr"] for o in self.optimizers]
        self.progress = Progress()
        self.log = args.out / "log.jsonl"
        if self.path.exists():
            self.load()
        else:
            self.log.unlink(missing_ok=True)
        self.level = multiprocessing.Value("i", self.progress.level)
        # Another stretch of the same stream: a resumed run must not see its first batches again.
        data = Data(tokenizer, f"{args.seed} {self.progress.step}", self.level)
        ahead = 4 if args.workers else None
        self.batches = iter(DataLoader(data, None, num_workers=args.workers, prefetch_factor=ahead))

    def parts(self) -> dict[str, Any]:
        return {"probes": self.probes, "muon": self.optimizers[0], "adam": self.optimizers[1]}

    def asked(self) -> dict[str, int]:
        """What makes it this run and no other."""
        return {"seed": self.args.seed, "tokens": self.args.tokens}

    def save(self) -> None:
        state = {
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "progress": asdict(self.progress),
            "asked": self.asked(),
        }
        state |= {name: part.state_dict() for name, part in self.parts().items()}
        torch.save(state, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").rename(self.path)

    def load(self) -> None:
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.progress = Progress(**state["progress"])
        if state["asked"] != self.asked():
            raise SystemExit(f"{self.path} is of a run with {state['asked']}: give the same, or another folder.")
        lines = self.log.read_text().splitlines(keepends=True)
        self.log.write_text("".join(line for line in lines if json.loads(line)["tokens"] <= self.progress.tokens))

    def step(self) -> None:
        """One step at the present stage."""
        progress, factor = self.progress, rate(self.progress, self.args.tokens)
        for optimizer, full in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * factor
        level, *columns = next(self.batches)
        batch = Batch(level, *(column.to(self.device) for column in columns))
        if factor < CLOSING:
            batch.answer[batch.answer == FIRST_NONE] = LAST_NONE
        loss, logged = loss_of(self.model, self.probes, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.rest, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        progress.step += 1
        progress.tokens += batch.ids.numel()
        if level == progress.level:
            progress.note(logged)
            self.level.value = progress.level

    def train(self) -> None:
        """Go on to the last step; log every few seconds, save every two minutes, and do both at the end."""
        clock = saved = printed = time.monotonic()
        if self.progress.tokens >= self.args.tokens:
            return
        with self.log.open("a") as log:
            while self.progress.tokens < self.args.tokens:
                self.step()
                now = time.monotonic()
                self.progress.seconds += now - clock
                clock = now
                if now - printed > LOG_S:
                    printed = now
                    self.tell(log)
                if now - saved > SAVE_S:
                    saved = now
                    self.save()
            self.tell(log)
        self.save()

    def tell(self, log: TextIO) -> None:
        line = json.dumps({**asdict(self.progress), "rate": rate(self.progress, self.args.tokens)})
        print(line, flush=True)
        print(line, file=log, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; a run found there goes on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="padding included; the rate reaches zero there")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches; 0: this one does")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    run = Run(args)
    print(f"{sum(p.numel() for p in run.model.parameters()):,} parameters", flush=True)
    run.train()


if __name__ == "__main__":
    main()
