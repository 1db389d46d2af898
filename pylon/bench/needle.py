"""`pylon models verify needle-1`: whether the shipped model is as good as docs/needle.md says, on data from a seed.

The text is the language reference that every Python ships (`pydoc_data.topics`), and the keys are held out of
training. Only the model's own answers count.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pylon.errors import EngineFailedError, ModelError, UsageError
from pylon.inference.blas import prefer_openblas
from pylon.inference.child.main import open_engine
from pylon.inference.engine import EngineSpec, Finished, GenerationRequest, Message, Sampling
from pylon.inference.models import needle
from pylon.inference.models.needle_tasks import OTHER_PARTS, WORDS, Task, sized

Engine = Literal["mlx", "llama"]
Answer = Callable[[str], str]

MODELS = Path(needle.__file__).parent
LENGTHS = (64, 128, 256, 384, 512, 640)
"""Lengths of a chunk in the model's own tokens, up to the longest that it was trained for."""


def verify(
    engine: Engine,
    seed: int = 1,
    *,
    present: int = 480,
    absent: int = 1000,
    folder: Path = MODELS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Exact-match shares (0 to 1) of needle-1 under `engine`.

    `present` and `absent` are the numbers of questions whose answer is in the text and is not; a quarter of `present`
    more are about keys made of other words and numbers. Raises `ModelError` when the weights or the engine's library
    are missing.
    """
    count = count_tokens(folder)
    other = present // 4
    total = present + absent + other
    found: list[tuple[int, int, int, bool]] = []
    refused: list[bool] = []
    others: list[bool] = []
    with answers(engine, folder) as answer:
        for i in range(total):
            if i < present:
                length, phrasing, decile = (
                    i % len(LENGTHS),
                    i // len(LENGTHS) % len(needle.QUESTIONS),
                    (7 * i + i // 6) % 10,
                )
                where = f"{seed} present {i}"
                task = sized_task(where, count, LENGTHS[length], present=True, phrasing=phrasing, decile=decile)
                right = answer(needle.prompt(task.question, task.chunk)) == task.answer
                found.append((length, phrasing, decile, right))
            elif i < present + other:
                where = f"{seed} other {i}"
                task = sized_task(where, count, LENGTHS[i % len(LENGTHS)], present=True, words=OTHER_PARTS)
                others.append(answer(needle.prompt(task.question, task.chunk)) == task.answer)
            else:
                length, phrasing = LENGTHS[0] + i * 37 % (LENGTHS[-1] - LENGTHS[0]), i % len(needle.QUESTIONS)
                task = sized_task(f"{seed} absent {i}", count, length, present=False, phrasing=phrasing)
                refused.append(answer(needle.prompt(task.question, task.chunk)) == needle.ABSENT)
            if progress:
                progress(i + 1, total)
    deciles = [_share(r for _, _, d, r in found if d == decile) for decile in range(10)]
    return {
        "model": needle.MODEL_ID,
        "engine": engine,
        "seed": seed,
        "asked": {"present": present, "absent": absent, "other_keys": other},
        "needle_present": _share(r for *_, r in found),
        "needle_absent": _share(refused),
        "other_keys": _share(others),
        "worst_decile": min((d for d in deciles if d is not None), default=None),
        "by_length": {str(n): _share(r for at, _, _, r in found if at == k) for k, n in enumerate(LENGTHS)},
        "by_phrasing": {q: _share(r for _, at, _, r in found if at == k) for k, q in enumerate(needle.QUESTIONS)},
        "by_decile": deciles,
    }


def sized_task(
    seed: object,
    count: Callable[[str], int],
    tokens: int,
    *,
    present: bool,
    phrasing: int = 0,
    decile: int | None = None,
    words: Sequence[str] = WORDS,
) -> Task:
    """A task whose chunk of text has at most `tokens` tokens, and nearly that many; see `needle_tasks.sized`."""
    return sized(seed, _text(), count, tokens, present=present, phrasing=phrasing, decile=decile, words=words)


@cache
def _text() -> str:
    from pydoc_data.topics import topics  # half a megabyte

    return "\n\n".join(topics[name] for name in sorted(topics))


@contextmanager
def answers(engine: Engine, folder: Path = MODELS, *, openblas: bool = True) -> Iterator[Answer]:
    """A function from one user message to the model's greedy answer, in this process.

    With `openblas`, MLX on Linux uses OpenBLAS where that is installed, as a node's engine does.
    """
    if engine == "mlx":
        if openblas:
            prefer_openblas(threads=1)
        yield _mlx(folder / needle.MODEL_ID)
    elif engine == "llama":
        yield _llama(folder / f"{needle.MODEL_ID}.gguf")
    else:
        raise UsageError(f"no engine called {engine}", hint="Choose mlx or llama.")


def _mlx(path: Path) -> Answer:
    if not (path / "model.safetensors").exists():
        raise ModelError(f"{path.name} is not in this installation", hint="Install Pylon again.")
    try:
        from mlx_lm import generate, load
    except ImportError:
        raise ModelError("mlx-lm is not installed", hint="Install Pylon again, or take --engine llama.") from None
    model, tokenizer = load(str(path))[:2]

    def answer(text: str) -> str:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
        return str(generate(model, tokenizer, ids, max_tokens=needle.ANSWER_TOKENS)).strip()

    return answer


def _llama(path: Path) -> Answer:
    if not path.exists():
        raise ModelError(f"{path.name} is not in this installation", hint="Install Pylon again.")
    if importlib.util.find_spec("llama_cpp"):
        return _engine(EngineSpec("llama", needle.MODEL_ID, slots=1, model_file=path))
    try:
        import xllamacpp
    except ImportError:
        raise ModelError("llama.cpp is not built", hint="`./scripts/setup --llama` builds it.") from None
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 2048
    params.cpuparams.n_threads = 1
    params.verbosity = -1
    # No prompt is repeated, and the server would cache gigabytes of them.
    params.cache_ram_mib = 0
    params.n_ctx_checkpoints = 0
    server = xllamacpp.Server(params)

    def answer(text: str) -> str:
        request = {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": needle.ANSWER_TOKENS,
            "temperature": 0,
        }
        return str(server.handle_chat_completions(request)["choices"][0]["message"]["content"]).strip()

    return answer


def _engine(spec: EngineSpec) -> Answer:
    """Answers by the engine that the inference child runs."""
    engine = open_engine(spec)
    engine.load()

    def answer(text: str) -> str:
        turns = (Message("user", text),)
        engine.add(GenerationRequest("", turns, Sampling(needle.ANSWER_TOKENS), spec.model))
        while engine.busy:
            for event in engine.step():
                if isinstance(event, Finished):
                    return event.generation.text.strip()
        raise EngineFailedError("the engine gave no answer")

    return answer


def count_tokens(folder: Path = MODELS) -> Callable[[str], int]:
    """A function that counts a text in needle-1's own tokens."""
    from tokenizers import Tokenizer

    path = folder / needle.MODEL_ID / "tokenizer.json"
    if not path.exists():
        raise ModelError(f"{needle.MODEL_ID} is not in this installation", hint="Install Pylon again.")
    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text).ids)


def _share(values: Iterator[bool] | Sequence[bool]) -> float | None:
    listed = list(values)
    return round(sum(listed) / len(listed), 4) if listed else None
