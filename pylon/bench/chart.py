"""Line charts as plain SVG: one file, no plotting library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 70, 24, 48, 56
# The height of a line of the key, which stands above the plot: inside it, lines would run through its words.
KEY = 18


@dataclass(frozen=True)
class Line:
    """A named series of (x, y) points."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


def draw(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    scale: Callable[[float], float] = float,
) -> str:
    """An SVG of these lines; `scale` maps x before it is laid out (a logarithm, for instance)."""
    low, high = scale(x_ticks[0][0]), scale(x_ticks[-1][0])
    bottom, top = y_ticks[0][0], y_ticks[-1][0]
    ceiling = TOP + KEY * len(lines)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (scale(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (y - bottom) / (top - bottom) * (HEIGHT - ceiling - BOTTOM)
        return round(across, 1), round(up, 1)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="16">{escape(title)}</text>',
    ]
    for value, name in y_ticks:
        _, y = place(x_ticks[0][0], value)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
    for value, name in x_ticks:
        x, _ = place(value, bottom)
        out.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{escape(name)}</text>')
    for i, line in enumerate(lines):
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line.points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2.5"/>')
        if len(line.points) < 40:
            out += [
                f'<circle cx="{x}" cy="{y}" r="3.5" fill="{line.colour}"/>'
                for x, y in (place(*point) for point in line.points)
            ]
        key = TOP - 4 + KEY * i
        stroke = f'stroke="{line.colour}" stroke-width="3"'
        out.append(f'<line x1="{LEFT}" x2="{LEFT + 24}" y1="{key}" y2="{key}" {stroke}/>')
        out.append(f'<text x="{LEFT + 30}" y="{key + 4}">{escape(line.name)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>')
    centre = (ceiling + HEIGHT - BOTTOM) / 2
    out.append(f'<text transform="translate(18 {centre}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
