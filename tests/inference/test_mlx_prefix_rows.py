"""Rows that go on from prefixes, apart or copied, say what they say alone, however they join and leave."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models import lfm2, llama
from mlx_lm.models.cache import KVCache, make_prompt_cache

from pylon.inference.mlx import cpu as mlx_cpu
from pylon.inference.mlx.prefix_rows import RowsBehindPrefixes, behind, read, takes_apart

mlx_cpu.install()
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 64,
}
LFM2 = {
    "model_type": "lfm2",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 32,
    "block_ff_dim": 48,
    "block_multiple_of": 1,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "layer_types": ["conv", "full_attention", "conv"],
}


@pytest.fixture(params=["llama", "lfm2"])
def network(request: pytest.FixtureRequest) -> Any:
    mx.random.seed(3)
    if request.param == "llama":
        return llama.Model(llama.ModelArgs.from_dict(LLAMA))
    return lfm2.Model(lfm2.ModelArgs.from_dict(LFM2))


def prefix(network: Any, tokens: list[int]) -> list[Any]:
    state: list[Any] = make_prompt_cache(network)
    if tokens:
        network(mx.array([tokens]), cache=state)
    return state


@pytest.mark.parametrize("apart", [True, False])
def test_rows_behind_heads_say_what_they_say_alone(network: Any, apart: bool) -> None:
    prefixes = [[5, 6, 7, 8, 9], [], [11, 12, 13]]
    rows = [(0, [1, 2, 3]), (0, [4, 2, 1]), (1, [9, 9, 1]), (2, [3, 1, 2]), (2, [7, 7, 7])]
    states = [prefix(network, tokens) for tokens in prefixes]

    def alone(place: int, more: list[int]) -> mx.array:
        at, tokens = rows[place]
        return network(mx.array([[*prefixes[at], *tokens, *more]]))[0, -1]

    batch: list[Any] = []
    for at, state in enumerate(states):
        own = [tokens for of, tokens in rows if of == at]
        layers = behind(state, len(own), 8, apart=apart)
        read(network, mx.array(own)[:, :-1], layers)
        for layer, other in zip(batch, layers, strict=False):
            layer.extend(other)
        batch = batch or layers
    assert any(isinstance(layer, RowsBehindPrefixes) for layer in batch) == apart
    last = mx.array([[tokens[-1]] for _, tokens in rows])
    said = network(last, cache=batch)[:, -1]
    for place in range(len(rows)):
        assert mx.allclose(said[place], alone(place, []), atol=1e-4)
    left = [1, 2, 4]
    for layer in batch:
        layer.filter(left)
    said = network(mx.array([[20], [21], [22]]), cache=batch)[:, -1]
    for place, token, words in zip(left, (20, 21, 22), said, strict=True):
        assert mx.allclose(words, alone(place, [token]), atol=1e-4)


def test_rows_behind_one_head_stay_together_and_a_head_without_rows_is_let_go() -> None:
    network = llama.Model(llama.ModelArgs.from_dict(LLAMA))
    one, other = prefix(network, [5, 6]), prefix(network, [7, 8])
    batch = [behind(state, rows, 8, apart=True)[0] for state, rows in ((one, 2), (one, 1), (other, 2))]
    for layers in batch:
        layers.update_and_fetch(*(mx.zeros((len(layers.offset), 2, 1, 8)) for _ in "kv"))
    for more in batch[1:]:
        batch[0].extend(more)
    assert batch[0]._prefixes == [(one[0], 3), (other[0], 2)]
    batch[0].filter([3])
    assert batch[0]._prefixes == [(other[0], 1)]


def test_what_nobody_looks_at_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = llama.Model(llama.ModelArgs.from_dict(LLAMA))
    layers = behind(prefix(network, [5, 6, 7]), 2, 8, apart=True)
    attended, exponentials = [], []
    attend, exp = mlx_cpu._attend, np.exp
    monkeypatch.setattr(mlx_cpu, "_attend", lambda *all_: attended.append(1) or attend(*all_))
    monkeypatch.setattr(np, "exp", lambda *all_, **more: exponentials.append(1) or exp(*all_, **more))
    read(network, mx.array([[1, 2], [3, 4]]), layers)
    assert len(attended) == 1, "the first of two layers"
    mx.eval(network(mx.array([[3], [5]]), cache=layers))
    assert len(attended) == 3, "both of them, when the answer counts"
    before = len(exponentials)
    mx.eval(nn.silu(mx.ones((2, 2))))
    assert len(exponentials) == before + 1


def test_a_network_of_attention_takes_heads_apart(network: Any) -> None:
    assert takes_apart(network)


@pytest.mark.parametrize("does", ["looks at keys itself", "takes them otherwise"])
def test_a_network_that_does_more_with_keys_gets_copies(does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = llama.Model(llama.ModelArgs.from_dict(LLAMA))
    plain = llama.scaled_dot_product_attention

    def other(queries: mx.array, keys: Any, values: Any, **more: Any) -> mx.array:
        if does == "looks at keys itself":
            return plain(queries, keys + 1, values, **more)
        return plain(queries, getattr(keys, "own", keys), getattr(values, "own", values), **more)

    monkeypatch.setattr(llama, "scaled_dot_product_attention", other)
    assert not takes_apart(network)


def test_a_network_of_half_precision_gets_copies() -> None:
    network = llama.Model(llama.ModelArgs.from_dict(LLAMA))
    network.set_dtype(mx.float16)
    assert type(make_prompt_cache(network)[0]) is KVCache
    assert not takes_apart(network)
