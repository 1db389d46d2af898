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


def rope(x: Tensor, theta: float) -> Tensor:
    """Rotate (batch, heads, time, size) by position: halves, not pairs."""
    half = x.shape[-1] // 2
    freq = theta ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = torch.arange(x.shape[2], dtype=torch.float32)[:, None] * freq[None, :]
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
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
        time = x.shape[1]
        # Shifted sums: on a CPU several times faster than a depthwise Conv1d and its backward.
        weight = self.conv.weight[:, 0]
        y = sum(bx[:, i : i + time] * weight[:, i] for i in range(self.kernel))
        return self.out_proj(c * y)


class Attention(nn.Module):
    """Causal attention with normalised queries and keys."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads, self.theta = c.heads, c.theta
        size = c.width // c.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(c.width, c.width, bias=False) for _ in range(4)
        )
        self.q_layernorm = nn.RMSNorm(size, eps=c.eps)
        self.k_layernorm = nn.RMSNorm(size, eps=c.eps)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, heads, time, size) each."""
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return rope(self.q_layernorm(q), self.theta), rope(self.k_layernorm(k), self.theta), v

    def forward(self, x: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(*self.project(x), is_causal=True)
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

    def forward(self, x: Tensor) -> Tensor:
        mix = self.self_attn if self.kind == "a" else self.conv
        x = x + mix(self.operator_norm(x))
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
        x, out = self.embed_tokens(tokens), []
        for layer in self.layers:
            x = layer(x)
            out.append(x)
        return out

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding_norm(self.states(tokens)[-1])

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.embed_tokens.weight.T
