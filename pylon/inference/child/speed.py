"""Computes the speed of the engine from its beats: tokens per second of work, with recent work weighted more."""

from pylon.inference.child.messages import Beat

# Seconds of work after which an observation counts half.
_HALF_LIFE_S = 30.0


class Speed:
    """The speeds in tokens per busy second, so that an idle engine keeps its last ones.

    `expected` are the prompt and completion speeds of a benchmark, which are used until the first beat with work.
    """

    def __init__(self, expected: tuple[float, float] = (0.0, 0.0)) -> None:
        self._expected = expected
        self._last = Beat(0, 0, 0.0)
        self._busy_s = 0.0
        self._prompt = 0.0
        self._completion = 0.0

    def observe(self, beat: Beat) -> None:
        """Takes a beat. Counts run from the start of a child: if one is lower than before, the child is new."""
        last = self._last if _goes_on(self._last, beat) else Beat(0, 0, 0.0)
        worked = beat.busy_s - last.busy_s
        fade = 0.5 ** (worked / _HALF_LIFE_S)
        self._busy_s = self._busy_s * fade + worked
        self._prompt = self._prompt * fade + beat.prompt_tokens - last.prompt_tokens
        self._completion = self._completion * fade + beat.completion_tokens - last.completion_tokens
        self._last = beat

    @property
    def counted(self) -> Beat:
        """The last beat's counts."""
        return self._last

    @property
    def prompt_per_s(self) -> float:
        return self._prompt / self._busy_s if self._busy_s else self._expected[0]

    @property
    def completion_per_s(self) -> float:
        return self._completion / self._busy_s if self._busy_s else self._expected[1]


def _goes_on(last: Beat, beat: Beat) -> bool:
    return (
        beat.busy_s >= last.busy_s
        and beat.prompt_tokens >= last.prompt_tokens
        and beat.completion_tokens >= last.completion_tokens
    )
