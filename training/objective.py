"""What training descends: the answers' loss, the probes', and a little of the text's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from curriculum import IGNORE, STAGES, Batch
from model import Config, Needle
from torch import Tensor, nn

PROBE_WEIGHT, TEXT_WEIGHT = 1.0, 0.01
TEXT_SHARE = 0.03
"""Share of the text's own tokens that are predicted: enough to keep the embeddings of rare ones alive."""


class Probes(nn.Module):
    """Training only: reads off two middle layers whether a token belongs to the asked key's statement.

    Without them the digits are copied within minutes but the key is hardly ever matched: one answer token in eight
    depends on it. With them every statement of a chunk says whether its key was matched.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.after = (len(config.layout) - 4, len(config.layout) - 2)
        self.reads = nn.ModuleList(nn.Linear(config.width, 1) for _ in self.after)

    def forward(self, states: list[Tensor], *marks: Tensor) -> Tensor:
        total = torch.zeros((), device=states[0].device)
        for read, after, mark in zip(self.reads, self.after, marks, strict=True):
            known = mark != IGNORE
            if known.any():
                state = F.rms_norm(states[after][known], states[after].shape[-1:])
                total = total + F.binary_cross_entropy_with_logits(read(state)[:, 0], mark[known].float())
        return total


def loss_of(model: Needle, probes: Probes, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss to descend and what to log: mean losses and the share of answers right in every token."""
    ids = batch.ids.clamp(min=0)
    states = model.states(ids[:, :-1])
    hidden = model.embedding_norm(states[-1])
    target, weight = ids[:, 1:], batch.answer[:, 1:]
    mask = weight > 0
    logits, weight = model.logits(hidden[mask]), weight[mask]
    each = F.cross_entropy(logits, target[mask], reduction="none")
    loss = (each * weight).sum() / weight.sum()
    right = logits.argmax(-1) == target[mask]
    if not STAGES[batch.level].echo:  # an echo has many answers a row; elsewhere the whole row must be right
        row = mask.nonzero()[:, 0]
        wrong = torch.zeros(len(ids), device=ids.device).index_put((row,), (~right).float(), accumulate=True)
        right = wrong == 0
    probe = probes(states, batch.near[:, :-1], batch.far[:, :-1])
    sample = (torch.rand(target.shape, device=ids.device) < TEXT_SHARE) & (batch.answer[:, 1:] == 0)
    text = F.cross_entropy(model.logits(hidden[sample]), target[sample], reduction="sum") / sample.sum().clamp(min=1)
    figures = torch.stack((loss, probe, text, right.float().mean())).tolist()
    logged = dict(zip(("loss", "probe", "text", "exact"), figures, strict=True))
    return loss + PROBE_WEIGHT * probe + TEXT_WEIGHT * text, logged
