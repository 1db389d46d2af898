"""How fast the engine is, from its beats: tokens per second of work, recent work counting most."""

from pylon.inference.child.messages import Beat

# After so many seconds of work an old observation counts half.
_HALF_LIFE_S = 30.0


class Speed:
    """Both speeds are tokens per busy second, so an idle engine keeps the speed that it last showed.

    `expected` are a benchmark's speeds of prompt and completion: they count until the engine has shown its own.
    """

    def __init__(self, expected: tuple[float, float] = (0.0, 0.0)) -> None:
        self._expected = expected
        self._last = Beat(0, 0, 0.0)
        self._busy_s = 0.0
        self._prompt = 0.0
        self._completion = 0.0

    def observe(self, beat: Beat) -> None:
        """Counts run from the child's start; a beat that counts less than the last comes from a new child."""
        last = self._last if beat.busy_s >= self._last.busy_s else Beat(0, 0, 0.0)
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
