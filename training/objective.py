"""What training descends: the answers' loss, the two aids', and a little of the text's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from curriculum import IGNORE, Batch
from model import Config, Needle
from torch import Tensor, nn

LOOK_WEIGHT, BELONGS_WEIGHT, TEXT_WEIGHT = 0.3, 0.3, 0.02
FIRST_TOKEN = 4.0
"""Weight of an answer's first token: it alone decides which statement is meant, or none."""


class Aids(nn.Module):
    """Training only. Without them digits are copied within a minute, but keys are not matched for many.

    `look` shows the first attention layer where to look from the end of every stated key, and the last one which
    digit to copy next; `belongs` reads off a layer between them whether a token belongs to the asked key.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.match, self.answer = config.layout.index("a"), config.layout.rindex("a")
        self.read = nn.Linear(config.width, 1)

    def look(self, model: Needle, states: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross entropy of matching and of answering attention against where they should look."""
        ids = (self.match, batch.look), (self.answer, batch.copy)
        matching, answering = (_attention_loss(model, states, at, target[:, :-1]) for at, target in ids)
        return matching, answering

    def belongs(self, states: list[Tensor], belongs: Tensor) -> Tensor:
        """Binary cross entropy of a linear read-out one layer later."""
        known = belongs != IGNORE
        if not known.any():
            return torch.zeros(())
        state = states[self.match + 1][known]
        read = self.read(F.rms_norm(state, state.shape[-1:]))[:, 0]
        return F.binary_cross_entropy_with_logits(read, belongs[known].float())


def _attention_loss(model: Needle, states: list[Tensor], at: int, target: Tensor) -> Tensor:
    layer = model.layers[at]
    q, k, _ = layer.self_attn.project(layer.operator_norm(states[at - 1]))
    losses = []
    for row in range(len(target)):
        marked = (target[row] != IGNORE).nonzero()[:, 0]
        if len(marked):
            scores = q[row][:, marked] @ k[row].transpose(1, 2) * q.shape[-1] ** -0.5
            scores = scores.masked_fill(torch.arange(k.shape[2]) > marked[:, None], -torch.inf)
            wanted = target[row, marked].repeat(len(scores))
            losses.append(F.cross_entropy(scores.flatten(0, 1), wanted, reduction="none"))
    return torch.cat(losses).mean() if losses else torch.zeros(())


def loss_of(model: Needle, aids: Aids, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss to descend and what to log: mean losses and the share of answers right in every token."""
    ids = batch.ids.clamp(min=0)
    states = model.states(ids[:, :-1])
    hidden = model.embedding_norm(states[-1])
    target, mask = ids[:, 1:], batch.answer[:, 1:] == 1
    logits = model.logits(hidden[mask])
    each = F.cross_entropy(logits, target[mask], reduction="none")
    row = mask.nonzero()[:, 0]
    right = torch.ones(len(ids), dtype=torch.bool)
    right[row[logits.argmax(-1) != target[mask]]] = False
    weight = torch.ones_like(each)
    weight[F.pad(row[1:] != row[:-1], (1, 0), value=True)] = FIRST_TOKEN
    loss = (each * weight).sum() / weight.sum()
    look, copy = aids.look(model, states, batch)
    belongs = aids.belongs(states, batch.belongs[:, :-1])
    # A sixth of the text's own tokens is enough to keep embeddings of rare tokens alive.
    sample = (torch.rand(target.shape) < 0.16) & (batch.answer[:, 1:] == 0)
    text = F.cross_entropy(model.logits(hidden[sample]), target[sample])
    logged = {
        "loss": loss,
        "look": look,
        "copy": copy,
        "belongs": belongs,
        "text": text,
        "exact": right.float().mean(),
    }
    total = loss + LOOK_WEIGHT * (look + copy) + BELONGS_WEIGHT * belongs + TEXT_WEIGHT * text
    return total, {name: value.item() for name, value in logged.items()}
