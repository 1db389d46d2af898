"""Attention and SiLU with numpy's exponential are MLX's own, to the last bits of a float32."""

import os
import subprocess
import sys
from itertools import accumulate

import mlx.core as mx
import mlx.nn as nn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.inference.mlx import cpu as mlx_cpu
from pylon.inference.mlx.cpu import Apart, PrefixStates

mlx_cpu.install()
ours, plain = mx.fast.scaled_dot_product_attention, mx.fast.scaled_dot_product_attention.__wrapped__
NEAR = 2e-5
counts = st.integers(1, 4)


def close(one: mx.array, other: mx.array) -> bool:
    return one.shape == other.shape and bool(mx.allclose(one, other, rtol=NEAR, atol=NEAR))


def normal(*shape: int) -> mx.array:
    return mx.random.normal(shape) * 2


@settings(deadline=None, max_examples=60)
@given(
    counts, counts, counts, st.integers(1, 9), st.integers(0, 70), st.sampled_from(["none", "causal", "bool", "sum"])
)
def test_attention_is_that_of_mlx(rows: int, heads: int, repeated: int, tokens: int, before: int, kind: str) -> None:
    keys = tokens + before
    masks = {
        "none": None,
        "causal": "causal",
        "bool": (mx.random.uniform(shape=(rows, 1, tokens, keys)) > 0.5) | (mx.arange(keys) == before),
        "sum": normal(tokens, keys),
    }
    q, k, v = normal(rows, heads * repeated, tokens, 8), normal(rows, heads, keys, 8), normal(rows, heads, keys, 12)
    assert close(ours(q, k, v, scale=0.5, mask=masks[kind]), plain(q, k, v, scale=0.5, mask=masks[kind]))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(counts, st.integers(0, 40)), min_size=1, max_size=3), counts, counts, st.integers(1, 5))
def test_attention_to_prefixes_apart_is_attention_to_copies(
    prefixes: list[tuple[int, int]], many: int, repeated: int, tokens: int
) -> None:
    rows = sum(share for share, _ in prefixes)
    own = tokens + 3
    mask = (mx.random.uniform(shape=(rows, 1, tokens, own)) > 0.5) | (mx.arange(own) == 0)
    q, k, v = (
        normal(rows, size, length, 8) for size, length in ((many * repeated, tokens), (many, own), (many, own))
    )
    states = [
        (normal(many, length, 8), normal(many, length, 8)) if length else (None, None) for _, length in prefixes
    ]
    apart = [
        Apart(
            each,
            [PrefixStates(share, both[at]) for (share, _), both in zip(prefixes, states, strict=True)],
            wanted=True,
        )
        for at, each in enumerate((k, v))
    ]
    said = ours(q, *apart, scale=0.5, mask=mask)
    ends = list(accumulate(share for share, _ in prefixes))
    for (share, length), end, both in zip(prefixes, ends, states, strict=True):
        some = slice(end - share, end)
        copied = [
            each[some]
            if prefix is None
            else mx.concatenate([mx.repeat(prefix[None], share, axis=0), each[some]], axis=2)
            for each, prefix in zip((k, v), both, strict=True)
        ]
        shown = mx.concatenate([mx.ones((share, 1, tokens, length), mx.bool_), mask[some]], axis=3)
        assert close(said[some], plain(q[some], *copied, scale=0.5, mask=shown))


@pytest.mark.parametrize("larger", ["prefix", "own"])
def test_scores_of_any_size_are_weighed(larger: str) -> None:
    # Whole numbers, so that large scores are exact.
    q, prefix, own = (mx.round(normal(*shape)) for shape in ((2, 3, 4, 8), (3, 9, 8), (2, 3, 5, 8)))
    prefix, own = (prefix * 16, own) if larger == "prefix" else (prefix, own * 16)
    states = Apart(own, [PrefixStates(2, prefix)], wanted=True)
    copies = mx.concatenate([mx.repeat(prefix[None], 2, axis=0), own], axis=2)
    said = ours(q, states, states, scale=4.0)
    assert close(said, plain(q, copies, copies, scale=4.0)) and mx.isfinite(said).all()


def test_a_mask_serves_layers_with_different_numbers_of_heads() -> None:
    mask = mx.random.uniform(shape=(2, 1, 4, 6)) > 0.3
    k = normal(2, 2, 6, 8)
    for heads in (2, 4, 2):
        q = normal(2, heads, 4, 8)
        assert close(ours(q, k, k, scale=0.5, mask=mask), plain(q, k, k, scale=0.5, mask=mask))


@pytest.mark.parametrize("case", ["half precision", "a mask for each head", "sinks"])
def test_what_it_does_not_do_is_left_to_mlx(case: str) -> None:
    q, k = normal(2, 3, 4, 8), normal(2, 3, 6, 8)
    if case == "half precision":
        q, k = q.astype(mx.float16), k.astype(mx.float16)
    more = {"a mask for each head": {"mask": normal(2, 3, 4, 6)}, "sinks": {"sinks": mx.ones((3,))}}.get(case, {})
    assert mx.array_equal(ours(q, k, k, scale=0.5, **more), plain(q, k, k, scale=0.5, **more))


def test_silu_is_that_of_mlx_also_far_from_nought() -> None:
    x = mx.concatenate([normal(3, 30_000).reshape(-1), mx.array([-1e4, -100.0, 0.0, 100.0, 1e4])])
    assert close(nn.silu(x), x * mx.sigmoid(x))


def test_silu_of_half_precision_is_left_to_mlx() -> None:
    x = normal(300).astype(mx.bfloat16)
    assert mx.array_equal(nn.silu(x), nn.silu.__wrapped__(x))


def test_silu_of_what_lies_otherwise_in_memory_is_that_of_mlx() -> None:
    x = normal(5, 300)
    before = mx.array(x.tolist())
    for each in (x.T, x[:, ::3], mx.broadcast_to(x[:1], (4, 300))):
        assert close(nn.silu(each), each * mx.sigmoid(each))
    assert mx.array_equal(x, before), "what it is given stays as it is"


def test_networks_whose_functions_mlx_would_compile_compute_by_these_in_any_environment() -> None:
    script = (
        "import importlib.util, sys\n"
        # Of the package this module alone, without all that the package itself imports: that takes seconds.
        "sys.modules['mlx_lm'] = importlib.util.module_from_spec(importlib.util.find_spec('mlx_lm'))\n"
        "import mlx.core as mx\n"
        "from mlx_lm.models.activations import swiglu\n"
        "from pylon.inference.mlx import cpu\n"
        "cpu.install()\n"
        "x = mx.ones((2, 3))\n"
        "assert mx.allclose(swiglu(x, x), x * mx.sigmoid(x))\n"
    )
    plain_environment = {name: value for name, value in os.environ.items() if name != "MLX_DISABLE_COMPILE"}
    subprocess.run([sys.executable, "-c", script], check=True, env=plain_environment)
