"""The settings of a run's loops and sub-calls."""

from dataclasses import dataclass, field
from typing import Literal

from pylon.rlm.repl.protocol import CellLimits


@dataclass(frozen=True, slots=True)
class SubSettings:
    """How sub-calls are asked. `model` is used if the code names none; `timeout_s` is for each call.

    A prompt travels in one event of at most `event_bytes`; None is no bound. `seed` is the run's; the seed of each
    call is derived from it and the name of the call.
    """

    model: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    timeout_s: float = 120.0
    event_bytes: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a loop works.

    `turns` is the most turns of a loop, `children` how many child loops run at once at each depth. `output_chars` is
    the most output of code that a turn shows the root, `code_chars` the longest cell, and `blocks` how many cells of
    a turn are run. A loop ends after `idle_turns` turns in a row
    without anything to run, or after the same code `repeats` times in a row. The root has `root_timeout_s` for a
    turn, and `last_s` for the last one, which is kept back from the wall time.
    """

    turns: int = 20
    root_timeout_s: float = 300.0
    last_s: float = 30.0
    idle_turns: int = 3
    repeats: int = 3
    output_chars: int = 20_000
    code_chars: int = 100_000
    blocks: int = 32
    children: int = 8
    tier: Literal["auto", "large", "small"] = "auto"
    cell: CellLimits = field(default_factory=CellLimits)
