"""Counters, gauges and histograms, and Prometheus' text format of them (version 0.0.4)."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# Upper bounds of the buckets, in seconds: from test models, which answer within the first, to large ones.
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

type Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A metric and its current values, by labels; `kind` is `counter` or `gauge`."""

    name: str
    kind: str
    help: str
    values: Sequence[tuple[Labels, float]]

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.values:
            yield f"{self.name}{_written(labels)} {_number(value)}"


def counter(name: str, help: str, value: float) -> Sample:  # noqa: A002 - the format's word
    """A counter without labels."""
    return Sample(name, "counter", help, [((), value)])


def gauge(name: str, help: str, value: float) -> Sample:  # noqa: A002 - the format's word
    """A gauge without labels."""
    return Sample(name, "gauge", help, [((), value)])


@dataclass(slots=True)
class Histogram:
    """Counts observations by the smallest of `bounds` that they do not exceed; the last count is for larger ones."""

    name: str
    help: str
    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    @classmethod
    def counted(cls, name: str, help: str, bounds: Sequence[float], counts: Sequence[int], sum: float) -> "Histogram":  # noqa: A002 - the format's words
        """A histogram of observations counted elsewhere: `counts` has one more item than `bounds`."""
        made = cls(name, help, tuple(bounds), sum=sum)
        made.counts = list(counts)
        return made

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        running = 0
        for bound, count in zip((*map(_number, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            yield f'{self.name}_bucket{{le="{bound}"}} {running}'
        yield f"{self.name}_sum {_number(self.sum)}"
        yield f"{self.name}_count {running}"


def _written(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
