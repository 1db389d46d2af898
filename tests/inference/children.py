"""How a test's child is started that does something else than it should."""

import sys
from pathlib import Path

MISBEHAVING = (sys.executable, str(Path(__file__).parent / "misbehaving.py"))
