"""Draw docs/needle.svg: how often needle-1 is right as the text grows, alone and as the leaf of a map.

Alone, the model reads what fits its window: the start of the text. As a leaf it reads every chunk, and is asked again
about each candidate. Every answer comes from the model; all that code does is to drop an answer which does not stand
in the chunk it came from. Run it where Pylon is installed: `python training/picture.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from pylon.bench.chart import Line, draw
from pylon.bench.needle import Answer, Engine, answers
from pylon.inference.models import needle
from pylon.inference.models.needle_tasks import WORDS, Task, make_task

DOCS = Path(__file__).resolve().parents[1] / "docs"
LENGTHS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
TEXTS = (40, 40, 40, 40, 12, 6, 2, 1, 1)
"""How many texts of each length: fewer of the long ones, which take minutes each."""

AROUND = 400
"""Characters on each side of a candidate that the second question shows."""

VOTES = 3
"""In how many phrasings the second question is asked."""


def haystack(rng: random.Random, chars: int) -> Task:
    """Held-out text of about `chars` characters, repeated where it is too short, with one stated value."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    start = rng.randrange(len(text))
    whole = (text[start:] + text * (1 + chars // len(text)))[: chars - 300]
    others = min(40, 2 + chars // 3000)
    return make_task(rng, whole, WORDS, present=True, others=others, questions=needle.QUESTIONS[:1])


def ask_map(answer: Answer, task: Task) -> str:
    """Ask every chunk, then ask again about the surroundings of each candidate, in other words; most votes win."""
    candidates = []
    for chunk in needle.chunks(task.chunk):
        said = answer(needle.prompt(task.question, chunk))
        if said != needle.ABSENT and said in chunk:
            at = chunk.find(said)
            candidates.append((said, chunk[max(0, at - AROUND) : at + AROUND]))
    votes = Counter(
        said
        for said, near in candidates
        for question in needle.QUESTIONS[:VOTES]
        if answer(needle.prompt(question.format(key=task.key), near)) == said
    )
    return votes.most_common(1)[0][0] if votes else needle.ABSENT


def measure(engine: Engine, longest: int, seed: int) -> Iterator[dict[str, float]]:
    """For each length: share of right answers alone and by map."""
    with answers(engine) as answer:
        for chars, texts in zip(LENGTHS, TEXTS, strict=True):
            if chars > longest:
                break
            began, alone, mapped = time.monotonic(), 0, 0
            for i in range(texts):
                task = haystack(random.Random(f"{seed} {chars} {i}"), chars)
                first = next(needle.chunks(task.chunk))
                alone += answer(needle.prompt(task.question, first)) == task.answer
                mapped += ask_map(answer, task) == task.answer
            yield {"chars": chars, "texts": texts, "alone": alone / texts, "map": mapped / texts,
                   "seconds": round(time.monotonic() - began, 1)}  # fmt: skip


def picture(rows: list[dict[str, float]]) -> str:
    """The SVG of these rows."""
    names = {1e3: "1 k", 1e4: "10 k", 1e5: "100 k", 1e6: "1 M", 1e7: "10 M"}
    return draw(
        "needle-1 finds a stated number: alone, and asked chunk by chunk",
        [
            Line("map over chunks, then ask again", "#0a7d4f", [(r["chars"], 100 * r["map"]) for r in rows]),
            Line("alone, on what fits its window", "#c2410c", [(r["chars"], 100 * r["alone"]) for r in rows]),
        ],
        x_label="characters of text",
        y_label="right answers, %",
        x_ticks=list(names.items()),
        y_ticks=[(0, "0"), (25, "25"), (50, "50"), (75, "75"), (100, "100"), (130, "")],
        scale=math.log10,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("mlx", "llama"), default="llama")
    parser.add_argument("--longest", type=int, default=LENGTHS[-1], help="characters of the longest text")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rows: list[dict[str, float]] = []
    for row in measure(args.engine, args.longest, args.seed):
        print(json.dumps(row), flush=True)
        rows.append(row)
        (DOCS / "needle.json").write_text(json.dumps(rows, indent=1) + "\n")
        (DOCS / "needle.svg").write_text(picture(rows))


if __name__ == "__main__":
    main()
