"""docs/relay.md says what is."""

from pathlib import Path

import pytest

from pylon.relay.information import SUPPORTED_NIPS, information
from pylon.relay.limits import RelayLimits

PAGE = (Path(__file__).parents[2] / "docs" / "relay.md").read_text()
ROWS = {line.split("|")[1].strip(): line for line in PAGE.splitlines() if line.startswith("| ")}


@pytest.mark.parametrize("name", RelayLimits.__dataclass_fields__)
def test_every_limit_is_documented_with_its_default(name):
    default = getattr(RelayLimits(), name)
    assert ("none" if default is None else f"{default:,}") in ROWS[f"`{name}`"]


def test_every_name_in_the_information_document_is_documented():
    full = RelayLimits(tag_value_bytes=1, writes_per_minute=1, kinds=frozenset({1}))
    told = information(full, require_auth=False, restricted_writes=False)["limitation"]
    general = {"min_pow_difficulty", "auth_required", "payment_required", "restricted_writes", "max_subid_length"}
    for name in told.keys() - general:
        assert f"`{name}`" in PAGE, name


def test_every_nip_is_documented():
    for number in SUPPORTED_NIPS:
        assert f"{number:02}" in ROWS
