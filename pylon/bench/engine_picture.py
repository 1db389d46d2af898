"""The picture of `pylon bench engine`: answers per second by requests in flight, a line for each shape."""

import math
from collections.abc import Sequence
from typing import Any

from pylon.bench.chart import Line, draw

_COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd")


def draw_sweep(model: str, rows: Sequence[dict[str, Any]]) -> str:
    """An SVG of the rows of a sweep, both axes in powers of two."""
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    lines = [
        Line(
            shape, colour, [(row["in_flight"], _log(row["requests_per_s"])) for row in rows if row["shape"] == shape]
        )
        for shape, colour in zip(shapes, _COLOURS, strict=False)
    ]
    heights = [height for line in lines for _, height in line.points]
    least, most = math.floor(min(heights)), math.ceil(max(heights) + 0.01)
    return draw(
        f"{model}: answers per second",
        lines,
        x_label="in flight",
        y_label="answers per second",
        x_ticks=[(width, str(width)) for width in sorted({row["in_flight"] for row in rows})],
        y_ticks=[(height, f"{2.0**height:g}") for height in range(least, most + 1)],
        scale=math.log2,
    )


def _log(value: float) -> float:
    return math.log2(max(value, 2**-10))
