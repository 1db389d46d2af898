"""Draw training/curves.svg from a run's log: loss, and the share of answers right in every token."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pylon.bench.chart import Line, draw

HERE = Path(__file__).resolve().parent


def main(log: Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines()]

    def points(read: str) -> list[tuple[float, float]]:
        return [(row["tokens"] / 1e6, min(1.0, row["means"][read])) for row in lines]

    last = lines[-1]["tokens"] / 1e6
    svg = draw(
        "Training needle-1: six stages within the first seventh, then practice",
        [
            Line("answers right in every token (share)", "#0a7d4f", points("exact")),
            Line("answer loss (nats, cut at 1)", "#c2410c", points("loss")),
            Line("probes: is this the asked key? (nats)", "#1d4ed8", points("probe")),
        ],
        x_label="million tokens seen",
        y_label="training batches, running mean",
        x_ticks=[(last * i / 5, f"{last * i / 5:.1f}") for i in range(6)],
        y_ticks=[(0, "0"), (0.25, "0.25"), (0.5, "0.5"), (0.75, "0.75"), (1, "1"), (1.3, "")],
    )
    (HERE / "curves.svg").write_text(svg)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
