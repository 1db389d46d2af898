"""What `pylon start` says of the model that it serves."""

import pytest

from pylon import config as settings
from pylon.cli.running import NEEDLE_ONLY
from pylon.cli.start import model_note


@pytest.mark.parametrize(
    ("inference", "said"),
    [
        ({}, NEEDLE_ONLY),
        ({"engine": "instant"}, ""),
        ({"model": "qwen"}, ""),
        ({"engine": "openai", "model": "qwen"}, ""),
        # llama.cpp's own server may well serve it.
        ({"engine": "openai", "model": "needle-1"}, ""),
    ],
)
def test_what_the_packaged_model_is_for_is_said_where_it_answers(inference, said):
    assert model_note(settings.parse({"inference": inference})) == said


def test_a_servers_model_that_was_never_named_is_told():
    said = model_note(settings.parse({"inference": {"engine": "openai", "openai_url": "http://127.0.0.1:9/v1"}}))
    assert (
        "http://127.0.0.1:9/v1 has no name in the settings" in said and "Set `model`" in said and "number" not in said
    )
