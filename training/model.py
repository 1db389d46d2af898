"""The network: LFM2's layout in a few lines of PyTorch, with LFM2's own names, so that export only writes it down.

Gated short convolutions hand every position the tokens just before it, which is what matching and copying need;
attention finds the match.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Sizes; `layout` has one letter a layer: c for a gated short convolution, a for attention."""

    vocab: int = 5120
    width: int = 128
    heads: int = 4
    hidden: int = 256
    kernel: int = 7
    layout: str = "cacaca"
    theta: float = 1e6
    eps: float = 1e-5
    window: int = 2048


def turns(time: int, size: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine by which heads of `size` are rotated at each position, (time, size / 2) each."""
    freq = theta ** (-torch.arange(size // 2, dtype=torch.float32, device=device) / (size // 2))
    angle = torch.arange(time, dtype=torch.float32, device=device)[:, None] * freq[None, :]
    return angle.cos(), angle.sin()


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (batch, heads, time, size) by position: halves, not pairs."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class ShortConv(nn.Module):
    """out(C * conv(B * x)) with a causal depthwise convolution."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.in_proj = nn.Linear(c.width, 3 * c.width, bias=False)
        self.conv = nn.Conv1d(c.width, c.width, c.kernel, groups=c.width, bias=False)
        self.out_proj = nn.Linear(c.width, c.width, bias=False)
        self.kernel = c.kernel

    def forward(self, x: Tensor) -> Tensor:
        b, c, x = self.in_proj(x).chunk(3, -1)
        bx = F.pad(b * x, (0, 0, self.kernel - 1, 0))
        if x.is_cuda:
            return self.out_proj(c * self.conv(bx.transpose(1, 2)).transpose(1, 2))
        time = x.shape[1]
        # Shifted sums: on a CPU several times faster than a depthwise Conv1d and its backward.
        weight = self.conv.weight[:, 0]
        y = sum(bx[:, i : i + time] * weight[:, i] for i in range(self.kernel))
        return self.out_proj(c * y)


class Attention(nn.Module):
    """Causal attention with normalised queries and keys."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads = c.heads
        size = c.width // c.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(c.width, c.width, bias=False) for _ in range(4)
        )
        self.q_layernorm = nn.RMSNorm(size, eps=c.eps)
        self.k_layernorm = nn.RMSNorm(size, eps=c.eps)

    def project(self, x: Tensor, turned: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, heads, time, size) each."""
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return rope(self.q_layernorm(q), *turned), rope(self.k_layernorm(k), *turned), v

    def forward(self, x: Tensor, turned: tuple[Tensor, Tensor]) -> Tensor:
        y = F.scaled_dot_product_attention(*self.project(x, turned), is_causal=True)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.w1 = nn.Linear(c.width, c.hidden, bias=False)
        self.w3 = nn.Linear(c.width, c.hidden, bias=False)
        self.w2 = nn.Linear(c.hidden, c.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    def __init__(self, c: Config, kind: str) -> None:
        super().__init__()
        if kind == "a":
            self.self_attn = Attention(c)
        else:
            self.conv = ShortConv(c)
        self.kind = kind
        self.feed_forward = FeedForward(c)
        self.operator_norm = nn.RMSNorm(c.width, eps=c.eps)
        self.ffn_norm = nn.RMSNorm(c.width, eps=c.eps)

    def forward(self, x: Tensor, turned: tuple[Tensor, Tensor]) -> Tensor:
        normed = self.operator_norm(x)
        x = x + (self.self_attn(normed, turned) if self.kind == "a" else self.conv(normed))
        return x + self.feed_forward(self.ffn_norm(x))


class Needle(nn.Module):
    """Tokens (batch, time) to (batch, time, width); `logits` reads that with the tied embedding."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c.vocab, c.width)
        self.layers = nn.ModuleList(Layer(c, kind) for kind in c.layout)
        self.embedding_norm = nn.RMSNorm(c.width, eps=c.eps)
        nn.init.normal_(self.embed_tokens.weight, std=0.5 * c.width**-0.5)
        for name, p in self.named_parameters():
            if name.endswith(("out_proj.weight", "w2.weight")):
                nn.init.normal_(p, std=0.3 * p.shape[1] ** -0.5)
            elif p.dim() == 2 and "embed" not in name:
                nn.init.normal_(p, std=p.shape[1] ** -0.5)
            elif "layernorm" in name:
                # Sharp from the start: picking one token of six hundred needs large scores.
                nn.init.constant_(p, 1.5)
        for layer in self.layers:
            if layer.kind == "a":
                # Like attends to like from the start: what a key in the chunk must find is the same key's question.
                layer.self_attn.k_proj.weight.data.copy_(layer.self_attn.q_proj.weight.data)

    def states(self, tokens: Tensor) -> list[Tensor]:
        """What every layer hands on, (batch, time, width) each."""
        c = self.config
        turned = turns(tokens.shape[1], c.width // c.heads, c.theta, tokens.device)
        x, out = self.embed_tokens(tokens), []
        for layer in self.layers:
            x = layer(x, turned)
            out.append(x)
        return out

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding_norm(self.states(tokens)[-1])

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.embed_tokens.weight.T
