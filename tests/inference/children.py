"""How a test's child is started that does something else than it should."""

import sys
from pathlib import Path

# The engine's own child, which tells of every step of an answer, however quick it is.
TALKATIVE = (
    sys.executable,
    "-P",
    "-c",
    "from pylon.inference.child import loop, main; loop.PROGRESS_S = 0.0; main.main()",
)
MISBEHAVING = (sys.executable, str(Path(__file__).parent / "misbehaving.py"))
