"""A model that is at work for as long as a test needs it to be."""

import asyncio
from typing import Any

import pytest

from pylon.inference.service import InferenceService


def hold_answers(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Providers in this process have no answers of their models before this is set."""
    let, generate = asyncio.Event(), InferenceService.generate

    async def held(self: InferenceService, *asked: Any) -> Any:
        await let.wait()
        return await generate(self, *asked)

    monkeypatch.setattr(InferenceService, "generate", held)
    return let
