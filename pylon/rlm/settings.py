"""How a run goes about its work: values, with what each is for."""

from dataclasses import dataclass, field
from typing import Literal

from pylon.rlm.repl.protocol import CellLimits


@dataclass(frozen=True, slots=True)
class SubSettings:
    """How sub-calls are asked. `model` holds where the code asks for none; `timeout_s` is for each.

    A prompt travels in one event of at most `event_bytes`; None is no bound. `seed` is the run's: each call has one
    of its own, made of this and its id.
    """

    model: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    timeout_s: float = 120.0
    event_bytes: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Of one loop. `children` loops run at once at each depth. `output_chars` is what a turn shows the root at most,
    `code_chars` what a cell may be long. After `idle_turns` without anything to run in a row, or the same code
    `repeats` times, the loop ends. The root has `root_timeout_s` for a turn, and `last_s` for the last one, which
    is kept free at the end of the wall time."""

    turns: int = 20
    root_timeout_s: float = 300.0
    last_s: float = 30.0
    idle_turns: int = 3
    repeats: int = 3
    output_chars: int = 20_000
    code_chars: int = 100_000
    children: int = 8
    tier: Literal["auto", "large", "small"] = "auto"
    cell: CellLimits = field(default_factory=CellLimits)
