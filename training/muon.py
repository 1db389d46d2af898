"""Muon: momentum made orthogonal by Newton-Schulz, for weight matrices. The rest is left to AdamW."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonal(g: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices to a stack (n, rows, columns)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    flip = g.shape[1] > g.shape[2]
    x = x.transpose(1, 2) if flip else x
    for _ in range(steps):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.transpose(1, 2) if flip else x


class Muon(torch.optim.Optimizer):
    """Parameters of one shape go through Newton-Schulz together."""

    def __init__(self, params: list[Tensor], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                stacked = orthogonal(torch.stack(updates))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for p, update in zip(params, stacked, strict=True):
                    p.add_(update, alpha=-group["lr"] * scale)
