"""docs/rlm.md says what the code does."""

import re
from pathlib import Path

from pylon.rlm.budget import Bound
from pylon.rlm.loop_state import Reason
from pylon.sections import RlmSection

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "rlm.md").read_text(encoding="utf-8")


def test_every_event_of_a_trajectory_is_documented():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pylon" / "rlm").glob("*.py"))
    kinds = set(re.findall(r'\b(?:self\._write|(?:self\._)?(?:trajectory|state)\.write)\(\s*"(\w+)"', code))
    assert {"run", "loop", "turn", "cell", "shown", "budget", "charged", "submitted", "returned", "final"} <= kinds
    for kind in kinds:
        assert re.search(rf"^\| `{kind}` \|", PAGE, re.MULTILINE), kind


def test_every_reason_and_every_bound_is_documented():
    for reason in Reason:
        assert f"`{reason}`" in PAGE, reason
    for bound in set(Bound) - {Bound.DEPTH}:
        assert f"`budget_{bound}`" in PAGE, bound


def test_defaults_that_the_page_names_are_the_settings():
    named = re.findall(r"\| `rlm\.(\w+)` \| ([\d,]+|none) \|", PAGE)
    assert "max_sats" in dict(named)
    for setting, shown in named:
        default = RlmSection.model_fields[setting].default
        assert float(shown.replace(",", "") if shown != "none" else 0) == default, setting


def test_settings_that_the_page_names_exist():
    named = re.findall(r"`rlm\.(\w+)`", PAGE)
    assert "root" in named
    for setting in named:
        assert setting in RlmSection.model_fields or setting.endswith("_"), setting
