"""What a file of settings may hold and no node starts with: found without starting one."""

import pytest

from pylon import config as settings
from pylon.errors import SetupError
from pylon.node.settings import check_settings

NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"


def test_settings_that_a_node_starts_with_pass():
    check_settings(settings.parse({}))
    check_settings(
        settings.parse(
            {
                "owner": {"schedule": ["mon-fri 22:00-06:30"], "rules": False},
                "provider": {"trusted": [NPUB], "blocked": ["ab" * 32]},
            }
        )
    )


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("owner", "schedule", ["mon-fri 22:00-06:30", "weekends"]),
        ("provider", "trusted", [NPUB, "npub1nonsense"]),
        ("provider", "blocked", ["me"]),
    ],
)
def test_each_setting_that_no_node_starts_with_is_named(section, name, value):
    config = settings.parse({section: {name: value}})
    with pytest.raises(SetupError, match=rf"{section}\.{name}"):
        check_settings(config)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("inference", "memory_gb", 1e308),
        ("inference", "openai_context", 10**9),
        ("customer", "bid_msat", 10**18 * 3),
    ],
)
def test_a_number_too_large_for_what_it_counts_is_named_when_the_settings_are_read(section, name, value):
    with pytest.raises(SetupError, match=rf"{section}\.{name}"):
        settings.parse({section: {name: value}})
