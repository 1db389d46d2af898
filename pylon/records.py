"""Values that are made for every job: read-only to whoever checks types, and as cheap to make as a plain class.

A frozen dataclass sets each of its fields by `object.__setattr__`, around its own method that refuses assignments.
That costs several times as much as in a plain one, and over a hundred are made for a job, both sides and the relay
together. A record is frozen for the type checker, which refuses an assignment before anything runs. To have it
refused at run time too, start Python in its development mode (`-X dev`).

Values that are made less often are frozen dataclasses.

Source: PEP 681 "Data Class Transforms", `frozen_default`.
"""

import sys
from dataclasses import dataclass, field
from typing import dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record[T](cls: type[T]) -> type[T]:
    """A dataclass with slots, equal and hashed by its fields."""
    return dataclass(frozen=sys.flags.dev_mode, slots=True, unsafe_hash=True)(cls)
