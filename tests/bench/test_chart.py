"""Line charts: what stands where."""

import re

from pylon.bench.chart import Line, draw


def test_no_line_runs_through_the_words_of_the_key() -> None:
    lines = [Line(name, "#000", [(0, 0), (1, 2), (2, 2)]) for name in ("the first", "the second")]
    ticks = [(float(value), f"at {value}") for value in range(3)]
    svg = draw("A title", lines, x_label="x", y_label="y", x_ticks=ticks, y_ticks=ticks)
    key = [float(y) for y in re.findall(r'y="([\d.]+)">the ', svg)]
    drawn = [float(y) for path in re.findall(r'points="([^"]+)"', svg) for y in re.findall(r",([\d.]+)", path)]
    assert len(key) == 2 and max(key) < min(drawn)
